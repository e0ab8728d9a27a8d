"""`Policy`: the model being trained. Its weights in the compute type, their fp32 masters, and the packed forward."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.config import Lora, Sampling
from tutelage.errors import ModelError
from tutelage.functional.label_smoothing import uniform_gap
from tutelage.functional.logprobs import (
    Head,
    at_least_fp32,
    chunked_logprobs,
    likeliest,
    top_entropy,
    transform_logits,
)
from tutelage.models import fused
from tutelage.models.attention import PACKED, compile_around_attention
from tutelage.models.layout import layout_of, rounded_up
from tutelage.models.lean import fits_kernels
from tutelage.models.loading import load_module, load_tokenizer, save
from tutelage.models.lora import Adapter
from tutelage.types import Batch, Span

_MAPPED = 32 << 20  # bytes from which glibc maps a block, and unmaps it when it is freed: cli/process.py
_GRAIN = 64  # on a CPU, rows of what is multiplied are multiples of it


class Policy:
    """A causal language model with fp32 master weights.

    In fp32 the masters *are* the module's parameters. In bf16 the module holds rounded copies: the forward, the
    backward and the sampler use those, the update works on the masters and `publish` rounds them again. `version`
    counts the updates: a sampler that derives something from the weights does so again for each.
    """

    def __init__(self, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, compute: torch.dtype) -> None:
        """Takes over `module`, which must be loaded in fp32, and turns it into the compute type."""
        self.module = module.eval()  # no dropout: the policy that is scored is the policy that sampled
        self.tokenizer = tokenizer
        self.compute = compute
        self.version = 0
        self._kept: dict[str, Tensor] = {}
        self.adapter: Adapter | None = None
        self.compiled = self.checkpointed = False
        self.fused = fits_kernels(module)
        module.set_attn_implementation(PACKED)
        self.masters: dict[str, Tensor] = dict(module.named_parameters())
        if compute != torch.float32:
            self.masters = {name: nn.Parameter(weight.detach().clone()) for name, weight in self.masters.items()}
            module.to(compute)
        _refuse_unfaithful(self)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def score(
        self, batch: Batch, sampling: Sampling | None = None, entropy_grad: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every action of a packed batch, under the transform that sampled it.

        Returns:
            logprobs_A, entropy_A: fp32. The [N, V] logits never exist at once.
        """
        return self.score_states(self.states(batch), batch, sampling, entropy_grad)

    def states(self, batch: Batch) -> Tensor:
        """[A, D] the hidden state in which each action of a packed batch is taken."""
        return self._hidden(batch).index_select(0, batch.source_A.to(self.device))

    def states_after(self, batch: Batch) -> Tensor:
        """[A, D] the hidden state that has seen each action of a packed batch, and all before it."""
        return self._hidden(batch).index_select(0, batch.action_A.to(self.device))

    def score_states(
        self, states_AD: Tensor, batch: Batch, sampling: Sampling | None = None, entropy_grad: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`score`, from the states: for those who need these for other things, too."""
        actions = len(batch.action_A)
        missing = self._missing(actions)  # states of 0, whose scores are dropped
        targets_A = batch.tokens_N[batch.action_A].to(self.device)
        logprobs_A, entropy_A = chunked_logprobs(
            F.pad(states_AD, (0, 0, 0, missing)),
            self._head(),
            F.pad(targets_A, (0, missing)),
            sampling,
            entropy_grad=entropy_grad,
        )
        return logprobs_A[:actions], entropy_A[:actions]

    def guessed(self, states_AD: Tensor, batch: Batch) -> Tensor:
        """[A] bool: is each action of a packed batch the likeliest token of all?"""
        return likeliest(states_AD, self._head()) == batch.tokens_N[batch.action_A].to(self.device)

    def entropy(self, batch: Batch, top: int) -> Tensor:
        """[A] entropy of the next token in each action's state, of the `top` likeliest ones; 0: of all."""
        if top == 0:
            return self.score(batch)[1]
        return top_entropy(self.states(batch), self._head(), top)

    def uniform_gap(self, states_AD: Tensor, batch: Batch) -> Tensor:
        """[A] what label smoothing adds to the cross-entropy of each action, for each share of it."""
        return uniform_gap(states_AD, self._head(), batch.tokens_N[batch.action_A].to(self.device))

    def compile_layers(self) -> None:
        """Has torch compile the decoder layers around their attention: fewer passes over activations, less memory.

        Compiles at the first forward, and once more for one without gradient; kept in torch's own cache on disk.
        """
        self.compiled, self.fused = True, False
        compile_around_attention()
        for layer in self._layers():
            layer.compile(dynamic=True)

    def checkpoint_activations(self) -> None:
        """Keeps only the layers' inputs for the backward pass, which then computes each layer again (1604.06174)."""
        self.checkpointed = True
        self.module.activation_checkpointing_enable({"use_reentrant": False})

    def _layers(self) -> nn.ModuleList:
        layers = getattr(self.module.base_model, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ModelError(f"{type(self.module).__name__} has no list of layers to compile or to compute again")
        return layers

    def _hidden(self, batch: Batch) -> Tensor:
        """The last hidden states, [N, D], each span seeing only its context and itself."""
        positions = len(batch.tokens_N)
        missing = self._missing(positions)
        tokens_N, positions_N = (F.pad(x.to(self.device), (0, missing)) for x in (batch.tokens_N, batch.positions_N))
        layout = layout_of(batch, self.device, missing)
        checkpointed = self.checkpointed and torch.is_grad_enabled()
        if self.fused:
            return fused.hidden_states(self.module, tokens_N, positions_N, layout, checkpointed)[:positions]
        with _recomputed(self._layers() if checkpointed else ()):
            return self.module.base_model(
                input_ids=tokens_N[None], position_ids=positions_N[None], use_cache=False, layout=layout
            ).last_hidden_state[0, :positions]

    def _missing(self, rows: int) -> int:
        """How many rows to add, so that a CPU sees few shapes: it generates code for each one it has not seen."""
        return rounded_up(rows, _GRAIN) - rows if self.device.type == "cpu" else 0

    def _head(self) -> Head:
        linear = self.module.lm_head
        return Head(linear.weight, linear.bias, getattr(self.module.config, "final_logit_softcapping", None))

    def collect_gradients(self) -> None:
        """Adds the gradients of one micro-batch to the masters', in fp32, and clears the compute weights' own."""
        for name, weight in self._compute_weights():
            if weight.grad is None:
                continue
            master = self.masters[name]
            if master.grad is None:
                master.grad = self._gradient_memory(name).copy_(weight.grad)
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    def _gradient_memory(self, name: str) -> Tensor:
        """For a master's gradient. The largest ones keep theirs: it would be mapped anew in every update."""
        master = self.masters[name]
        if name not in self._kept:
            fresh = torch.empty_like(master)
            if fresh.nbytes < _MAPPED:
                return fresh
            self._kept[name] = fresh
        return self._kept[name]

    @torch.no_grad()
    def publish(self) -> None:
        """Hands the updated masters to the forward and to the sampler: a new version."""
        for name, weight in self._compute_weights():
            if name in self.masters:
                weight.copy_(self.masters[name])
        if self.adapter is not None:
            self.adapter.publish()
        self.version += 1

    def adapt(self, settings: Lora, seed: int, beside: Sequence[str] = ()) -> None:
        """From now on trains low-rank factors only, and the weights named beside them."""
        kept = {name: self.masters[name] for name in beside}
        self.adapter = Adapter(self.module, self.masters, settings, seed)
        for name in beside:
            self.module.get_parameter(name).requires_grad_(True)
        self.masters = {**self.adapter.factors, **kept}

    @contextmanager
    def without_adapter(self) -> Iterator[Policy]:
        """The policy as it was before it was adapted, for a while: a reference for which no second model is held.

        What is trained beside the factors stays as it is. The weights come back to the last bit, so `version` does not
        count; but nothing may sample meanwhile, and no graph may be open that is still to go backward.
        """
        assert self.adapter is not None, "there is no adapter to switch off"
        self.adapter.withdraw()
        try:
            yield self
        finally:
            self.adapter.publish()

    def _compute_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The module's parameters, where they are not the masters themselves."""
        return iter(()) if self.compute == torch.float32 else self.module.named_parameters()

    def frozen_copy(self) -> Policy:
        """A reference: the same weights in the compute type, apart, without masters or gradients."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        if self.compiled:  # what torch compiled is not copied
            twin.compile_layers()
        return twin.freeze()

    def freeze(self) -> Policy:
        """Gives up masters and gradients: it answers and scores from now on, and learns no more."""
        self.module.requires_grad_(False)
        self.masters, self._kept, self.adapter = {}, {}, None
        return self

    def logits(self, states_AD: Tensor, sampling: Sampling) -> Tensor:
        """[A, V] of every action's distribution, all at once, by operations that can be differentiated twice."""
        logits_AV = self._head().logits(states_AD)
        return transform_logits(logits_AV, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)

    def choice(self, states_AD: Tensor, tokens: Sequence[int]) -> Tensor:
        """[A, C] in fp32: the probability of each of these tokens, given that it is one of them."""
        head = self._head().of(torch.tensor(tokens, device=states_AD.device))
        return head.logits(at_least_fp32(states_AD)).softmax(-1)

    @torch.no_grad()
    def follow(self, other: Policy, keep: float) -> None:
        """Moves towards another policy: keeps a share of its own masters, and takes the rest of the other's."""
        for name, master in self.masters.items():
            master.lerp_(other.masters[name], 1.0 - keep)
        self.publish()

    def twin(self) -> Policy:
        """The same weights apart, with masters of their own to be trained."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        twin.masters, twin._kept = dict(twin.module.named_parameters()), {}
        if self.compute != torch.float32:
            twin.masters = {name: nn.Parameter(master.detach().clone()) for name, master in self.masters.items()}
        return twin

    def save(self, folder: Path) -> None:
        """Writes the masters as a folder that plain transformers opens; the factors of LoRA beside them."""
        module = copy.copy(self.module)
        if self.adapter is None:
            save(module, self.tokenizer, folder, self.masters)
            return
        save(module, self.tokenizer, folder, self.adapter.merged(self.masters))
        self.adapter.save(folder / "adapter", str(self.module.name_or_path))


def load_policy(folder: Path, compute: torch.dtype, device: torch.device) -> Policy:
    """Loads a policy from a transformers folder, offline. Raises ModelError with the remedy."""
    module = load_module(folder, torch.float32, PACKED)
    return Policy(module.to(device), load_tokenizer(folder), compute)


def pick_compute(wish: str, device: torch.device) -> torch.dtype:
    """The compute type of a recipe. `auto`: bf16 where the processor multiplies it in hardware, else fp32."""
    if wish == "fp32":
        return torch.float32
    if wish == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


@contextmanager
def _recomputed(layers: Iterable[nn.Module]) -> Iterator[None]:
    """transformers checkpoints a layer in training mode only. Its parts stay in evaluation mode, without dropout."""
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


@torch.no_grad()
def _refuse_unfaithful(policy: Policy) -> None:
    """Compares the packed forward of two short sequences that share a prompt with transformers' own, one by one.

    An architecture whose attention sees more than its spans would otherwise train on wrong probabilities in silence.
    """
    module, vocabulary = policy.module, policy.module.config.vocab_size
    ids = [(7 * i + 3) % vocabulary for i in range(9)]
    prompt, tails = ids[:4], (ids[4:7], ids[7:])
    batch = Batch(
        tokens_N=torch.tensor(ids),
        positions_N=torch.tensor([0, 1, 2, 3, 4, 5, 6, 4, 5]),
        spans=(Span(0, 4), Span(4, 3, 0, 4), Span(7, 2, 0, 4)),
        action_A=torch.tensor([]),
        source_A=torch.tensor([]),
        sequence_A=torch.tensor([]),
        rows=(0, 1),
        fields={},
    )
    try:
        packed_ND = policy._hidden(batch).float()
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ModelError(f"{type(module).__name__} does not take the packed forward: {error}") from error
    module.set_attn_implementation("eager")
    alone = [
        module.base_model(input_ids=torch.tensor([prompt + tail], device=policy.device), use_cache=False)
        for tail in tails
    ]
    module.set_attn_implementation(PACKED)
    first, second = (output.last_hidden_state[0].float() for output in alone)
    expected_ND = torch.cat([first, second[len(prompt) :]])
    # Of all positions together: rounding to bf16 may blow up in a single one, a wrong attention is wrong in several.
    gap = (packed_ND - expected_ND).norm() / expected_ND.norm()
    tolerance = 1e-3 if policy.compute == torch.float32 else 0.15
    if not gap < tolerance:
        raise ModelError(
            f"{type(module).__name__}: the packed forward differs from transformers' own by {gap:.2g} of the "
            "hidden states' size; this architecture is not supported"
        )
