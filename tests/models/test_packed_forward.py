"""Packed = padded = alone, for values and gradients, in every family; and no cross-talk between sequences."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import FAMILIES, VOCAB, tiny_model, tiny_tokenizer
from tutelage.config import Sampling
from tutelage.data.packing import Row, pack
from tutelage.engines import Request, TransformersEngine
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.models import PACKED, Policy, attention
from tutelage.models.attention import packed_attention
from tutelage.stages.context import StageRun

# Windows shorter than the sequences, so that a layer that ignored its window would be found out.
CHANGES = {"mistral": {"sliding_window": 6}, "gemma2": {"sliding_window": 6}, "gemma3": {"sliding_window": 6}}


def policy_of(family: str) -> Policy:
    return Policy(tiny_model(family, **CHANGES.get(family, {})), tiny_tokenizer(), torch.float32)


def random_rows(groups: int = 3, completions: int = 4) -> list[Row]:
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, VOCAB, (count,), generator=generator).tolist())

    rows = []
    for group in range(groups):
        context = tokens(5 + 4 * group)
        rows += [Row(context, tokens(1 + 3 * place), group) for place in range(completions)]
    return rows


def alone(policy: Policy, row: Row) -> Tensor:
    """Log-probabilities of a row's actions by transformers' own forward of that row only."""
    policy.module.set_attn_implementation("eager")
    tokens = row.context + row.tokens
    logits_TV = policy.module(input_ids=torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    policy.module.set_attn_implementation(PACKED)
    first = len(row.context)
    return torch.stack([logits_TV[first + i - 1, row.tokens[i]] for i in row.actions])


def gradients(policy: Policy, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(policy.masters.values())))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [10_000, 40])
def test_packed_rows_score_and_learn_as_if_each_stood_alone(family: str, budget: int) -> None:
    policy, rows = policy_of(family), random_rows()
    weights = torch.linspace(-1, 1, sum(len(row.actions) for row in rows))
    packed_A = torch.cat([policy.score(batch)[0] for batch in pack(rows, budget)])
    alone_A = torch.cat([alone(policy, row) for row in rows])
    torch.testing.assert_close(packed_A, alone_A, atol=2e-5, rtol=1e-5)
    ours, theirs = gradients(policy, packed_A @ weights), gradients(policy, alone_A @ weights)
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine - reference).abs().max() <= 1e-5 * max(1.0, reference.abs().max().item())


def reference_varlen(
    query: Tensor, key: Tensor, value: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **options: Any
) -> Tensor:
    """FlashAttention's semantics, one sequence after the other: causal, aligned bottom right, `left` keys back."""
    left, right = options["window_size"]
    assert (right, options["enable_gqa"], cu_q.dtype, cu_k.dtype) == (0, True, torch.int32, torch.int32)
    assert (max_q, max_k) == (cu_q.diff().max(), cu_k.diff().max())
    outputs = []
    queries, keys = cu_q.diff().tolist(), cu_k.diff().tolist()
    for q, k, v in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        behind = torch.arange(len(q))[:, None] + len(k) - len(q) - torch.arange(len(k))[None]
        hidden = (behind < 0) | (behind > left if left >= 0 else torch.zeros_like(behind, dtype=torch.bool))
        scores = (torch.einsum("qhd,khd->hqk", q, k) * options["scale"]).masked_fill(hidden, -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(outputs)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_a_varlen_kernel_is_asked_for_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "_missing", lambda policy, rows: 0)  # as on a GPU
    policy = policy_of(family)
    expected = scores_and_gradients(policy)
    calls: list[int] = []
    monkeypatch.setattr(attention, "_has_varlen", lambda query: True)
    monkeypatch.setattr(attention, "varlen_attn", lambda *a, **k: calls.append(1) or reference_varlen(*a, **k))
    found = scores_and_gradients(policy)
    assert len(calls) == 2  # layers
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())


def test_conversations_without_context_learn_from_their_acted_tokens_only() -> None:
    policy = policy_of("llama")
    row = Row((), (7, 8, 9, 10, 11, 12), 0, (True, False, True, True, False, True))
    (batch,) = pack([row, Row((), (20, 21, 22), 1)], 100)
    assert batch.action_A.tolist() == [2, 3, 5, 7, 8]  # the first token of a row has no predictor
    assert batch.source_A.tolist() == [1, 2, 4, 6, 7]
    assert batch.sequence_A.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(policy.score(batch)[0][:3], alone(policy, row), atol=2e-5, rtol=1e-5)


def test_a_sequence_does_not_see_its_neighbours() -> None:
    policy = policy_of("qwen2")
    rows = random_rows()
    changed = [*rows[:5], Row(rows[5].context, tuple(reversed(rows[5].tokens)), rows[5].group), *rows[6:]]
    before, after = (policy.score(pack(some, 10_000)[0])[0] for some in (rows, changed))
    (batch,) = pack(rows, 10_000)
    others = batch.sequence_A != 5
    torch.testing.assert_close(before[others], after[others], atol=1e-6, rtol=0)
    assert (before[~others] - after[~others]).abs().max() > 1e-3


def test_scores_use_the_transform_that_sampled() -> None:
    policy = policy_of("llama")
    (batch,) = pack(random_rows(1), 1000)
    sampling = Sampling(temperature=0.5, top_k=20)
    scored_A, entropy_A = policy.score(batch, sampling)
    row_A = []
    for row in random_rows(1):
        policy.module.set_attn_implementation("eager")
        logits_TV = policy.module(input_ids=torch.tensor([row.context + row.tokens])).logits[0].float() / 0.5
        policy.module.set_attn_implementation(PACKED)
        for i in row.actions:
            logits_V = logits_TV[len(row.context) + i - 1]
            kept = logits_V >= logits_V.topk(20).values[-1]
            kept[row.tokens[i]] = True  # the sampled token is never filtered when it is scored
            row_A.append(logits_V[row.tokens[i]] - logits_V[kept].logsumexp(0))
    torch.testing.assert_close(scored_A, torch.stack(row_A), atol=2e-5, rtol=1e-5)
    assert (entropy_A <= torch.log(torch.tensor(21.0))).all()


def test_rows_are_cut_by_tokens_and_share_their_context() -> None:
    rows = random_rows(groups=2, completions=3)
    (whole,) = pack(rows, 10_000)
    assert len(whole.tokens_N) == 5 + 9 + 2 * (1 + 4 + 7)  # each context stands there once
    parts = pack(rows, 20)
    assert [row for part in parts for row in part.rows] == list(range(6))
    assert all(len(part.tokens_N) <= 20 for part in parts)
    with pytest.raises(DataError, match=r"16 tokens.*tokens_per_microbatch = 15; set it to 16"):
        pack(rows, 15)


def test_an_empty_completion_is_counted_and_scores_nothing() -> None:
    (batch,) = pack([Row((5, 6), (), 0), Row((5, 6), (7,), 0)], 100)
    assert batch.sequences == 2
    assert batch.sequence_A.tolist() == [1]
    assert policy_of("llama").score(batch)[0].shape == (1,)


def test_bf16_holds_fp32_masters_and_publishes_them() -> None:
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.bfloat16)
    name = "model.layers.0.mlp.up_proj.weight"
    weight = dict(policy.module.named_parameters())[name]
    assert (weight.dtype, policy.masters[name].dtype) == (torch.bfloat16, torch.float32)
    policy.score(pack(random_rows(), 1000)[0])[0].sum().backward()
    once = weight.grad.float()
    policy.collect_gradients()
    policy.score(pack(random_rows(), 1000)[0])[0].sum().backward()
    policy.collect_gradients()
    torch.testing.assert_close(policy.masters[name].grad, 2 * once)  # micro-batches add up in fp32
    with torch.no_grad():
        policy.masters[name].add_(0.125)
    policy.publish()
    torch.testing.assert_close(weight.float(), policy.masters[name], atol=4e-3, rtol=8e-3)
    assert policy.version == 1


def scores_and_gradients(policy: Policy) -> list[Tensor]:
    (batch,) = pack(random_rows(), 1000)
    logprobs_A, _ = policy.score(batch)
    weights = torch.linspace(-1, 1, len(logprobs_A))
    return [logprobs_A.detach(), *gradients(policy, logprobs_A @ weights)]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_recomputed_layers_have_the_same_gradients_and_keep_less(family: str) -> None:
    policy = policy_of(family)
    kept: list[int] = []

    def results() -> list[Tensor]:
        kept.append(0)

        def keep(x: Tensor) -> Tensor:
            kept[-1] += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            return scores_and_gradients(policy)

    expected = results()
    policy.checkpoint_activations()
    found = results()
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert kept[1] < 0.5 * kept[0]
    assert not any(module.training for module in policy.module.modules())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_compiled_layers_score_and_learn_the_same() -> None:
    policy = policy_of("llama")
    expected, reference = scores_and_gradients(policy), policy.frozen_copy()
    policy.compile_layers()
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for found, one in zip(scores_and_gradients(policy), expected, strict=True):
        assert (found - one).abs().max() <= 1e-5 * max(1.0, one.abs().max().item())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > compiled
    with torch.no_grad():
        policy.masters["model.layers.0.mlp.up_proj.weight"].mul_(1.1)
        (batch,) = pack(random_rows(), 1000)
        twin = policy.frozen_copy()
        torch.testing.assert_close(twin.score(batch)[0], policy.score(batch)[0], atol=1e-5, rtol=1e-5)
        assert (twin.score(batch)[0] - reference.score(batch)[0]).abs().max() > 1e-4
    assert twin.compiled
    engine = TransformersEngine(policy)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    engine.generate([Request((5, 6, 7), 2, 0)], Sampling(max_new_tokens=3))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before  # sampling compiles nothing


def test_without_a_compiler_compiling_is_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="compile_layers = false"):
        StageRun.load_policy(SimpleNamespace(recipe=SimpleNamespace(compile_layers=True)))


def test_a_reference_stays_where_it_was() -> None:
    reference_stays(policy_of("llama"))


def reference_stays(policy: Policy) -> None:
    (batch,) = pack(random_rows(), 1000)
    reference = policy.frozen_copy()
    before = reference.score(batch)[0]
    with torch.no_grad():
        for master in policy.masters.values():
            master.mul_(1.1)
    policy.publish()
    torch.testing.assert_close(reference.score(batch)[0], before, atol=0, rtol=0)
    assert (policy.score(batch)[0] - before).abs().max() > 1e-3
    assert not before.requires_grad


def test_an_architecture_that_sees_more_than_its_spans_is_refused() -> None:
    module = tiny_model("llama")
    honest = module.base_model.layers[0].self_attn.forward

    def leaky(hidden_states: Tensor, **kwargs: object) -> tuple[Tensor, None]:
        output, _ = honest(hidden_states=hidden_states, **kwargs)
        return output + hidden_states.mean(1, keepdim=True), None  # every position sees all others

    module.base_model.layers[0].self_attn.forward = leaky
    with pytest.raises(ModelError, match="packed forward differs"):
        Policy(module, tiny_tokenizer(), torch.float32)


def test_packed_attention_needs_a_layout() -> None:
    heads = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ModelError, match="without a layout"):
        packed_attention(torch.nn.Identity(), heads, heads, heads, None)


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # gemma2's logits have a soft cap
def test_a_choice_among_tokens_is_that_of_the_whole_distribution(family: str) -> None:
    policy, rows, tokens = policy_of(family), random_rows(), [40, 7, 123]
    for batch in pack(rows, 10_000):
        with torch.no_grad():
            states_AD = policy.states(batch)
            expected_AC = policy.logits(states_AD, Sampling())[:, tokens].softmax(-1)
            torch.testing.assert_close(policy.choice(states_AD, tokens), expected_AC, rtol=1e-5, atol=1e-6)


def test_close_choices_are_not_rounded_to_ties_in_bf16() -> None:
    """Logits of about 8 have a grain of 1 / 32 in bf16; the states that they are made of tell more than that."""
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.bfloat16)
    (batch,) = pack(random_rows(), 10_000)
    with torch.no_grad():
        states_AD = policy.states(batch) * 4.0
        head_VD = policy.module.lm_head.weight.double()
        exact_AC = (states_AD.double() @ head_VD[[40, 7]].T).softmax(-1)
        torch.testing.assert_close(policy.choice(states_AD, [40, 7]).double(), exact_AC, rtol=1e-4, atol=1e-6)
        rounded_AC = policy.logits(states_AD, Sampling())[:, [40, 7]].softmax(-1).double()
    assert (rounded_AC - exact_AC).abs().max() > 1e-3


def test_a_frozen_policy_scores_the_same_and_holds_no_masters() -> None:
    policy = policy_of("llama")
    (batch,) = pack(random_rows(), 10_000)
    before_A, _ = policy.score(batch)
    frozen = policy.freeze()
    assert frozen is policy
    assert not frozen.masters
    after_A, _ = frozen.score(batch)
    assert not after_A.requires_grad
    torch.testing.assert_close(after_A, before_A.detach(), rtol=0, atol=0)
