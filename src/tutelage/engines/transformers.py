"""The engine for any architecture: transformers' own forward and cache, our sampler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from transformers import DynamicCache, PreTrainedModel

from tutelage.config import Sampling
from tutelage.engines.base import Completion, Finished, Request, Watch
from tutelage.engines.sequences import Progress, Stopper, Writing, begin, check_fits, draw, end_tokens, noise_for
from tutelage.models import PACKED, Policy

_ROWS = 64  # sequences decoded side by side


class TransformersEngine:
    """Prompts are padded on the left, every completion prefills its own. A batch ends with its longest sequence."""

    name = "transformers"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.end_tokens = end_tokens(policy.module, policy.tokenizer)

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        check_fits(requests, sampling, self.policy.module)
        stopper = Stopper(self.policy.tokenizer, self.end_tokens, sampling.stop)
        rows, groups = begin(requests, sampling, self.policy.version)
        progress = Progress(requests, groups, watch, finished)
        with _own_attention(self.policy.module), _eager(self.policy.compiled):
            for first in range(0, len(rows), _ROWS):
                batch = rows[first : first + _ROWS]
                self._write([requests[row.request].tokens for row in batch], batch, sampling, stopper)
                progress.tell(batch)
        return groups

    def _write(
        self, prompts: Sequence[tuple[int, ...]], rows: Sequence[Writing], sampling: Sampling, stopper: Stopper
    ) -> None:
        """Writes all rows to their ends, in one padded batch that shrinks as rows finish."""
        module, device = self.policy.module, self.policy.device
        width = max(map(len, prompts))
        tokens_BT = torch.zeros(len(rows), width, dtype=torch.int64)
        mask_BT = torch.zeros(len(rows), width, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, width - len(prompt) :] = torch.tensor(prompt)
            mask_BT[row, width - len(prompt) :] = 1
        tokens_BT, mask_BT = tokens_BT.to(device), mask_BT.to(device)
        cache, open_rows = DynamicCache(config=module.config), list(rows)
        while True:
            positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -tokens_BT.shape[1] :]
            logits_BV = module(
                input_ids=tokens_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            (uniform_B,) = noise_for(open_rows, 1, device)
            tokens_B, logprobs_B = draw(logits_BV, uniform_B, sampling)
            going = [
                i
                for i, (row, token, logprob) in enumerate(
                    zip(open_rows, tokens_B.tolist(), logprobs_B.tolist(), strict=True)
                )
                if not row.append(token, logprob, stopper)
            ]
            if not going:
                return
            keep_B = torch.tensor(going, device=device)
            if len(going) < len(open_rows):
                cache.batch_select_indices(keep_B)
                open_rows = [open_rows[i] for i in going]
            tokens_BT = tokens_B[keep_B, None]
            mask_BT = torch.cat((mask_BT[keep_B], mask_BT.new_ones(len(going), 1)), 1)


def _eager(compiled: bool) -> AbstractContextManager[None]:
    """Layers that were compiled to learn are not compiled again for every shape of sampling."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def _own_attention(module: PreTrainedModel) -> Iterator[None]:
    """The module's own attention for the time of sampling; the packed one comes back for learning."""
    module.set_attn_implementation("sdpa" if module._supports_sdpa else "eager")
    try:
        yield
    finally:
        module.set_attn_implementation(PACKED)
