"""A thought and what is predicted after it: how the two are laid out in tokens, and how likely the prediction is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tutelage.config import Sampling
from tutelage.data.chat import encode_plain
from tutelage.data.packing import Row, pack
from tutelage.errors import DataError
from tutelage.models import Policy
from tutelage.rollouts import check_prompts
from tutelage.types import Group, Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rows_after_thoughts(
    tokenizer: PreTrainedTokenizerBase, groups: Sequence[Group], closing: str, horizon: int
) -> list[Row]:
    """One row for each sample: the prompt as it was sampled from, the thought, what closes it, the text's next tokens.

    Args:
        groups: of a `corpus` environment's prompts.
        horizon: how many next tokens, which are the row's only actions.
    """
    closed, special = encode_plain(tokenizer, closing, first=False), frozenset(tokenizer.all_special_ids)
    return [
        _row(group.prompt_tokens, (*thought_tokens(tokenizer, sample, special), *closed), group.prompt, number, horizon)
        for number, group in enumerate(groups)
        for sample in group.samples
    ]


def rows_of_contexts(prompts: Sequence[Prompt], horizon: int) -> list[Row]:
    """One row for each prompt: its context without any thought, then the text's next tokens."""
    return [
        _row((), tuple(prompt.meta["context_tokens"]), prompt, number, horizon) for number, prompt in enumerate(prompts)
    ]


def thought_tokens(tokenizer: PreTrainedTokenizerBase, sample: Sample, special: frozenset[int]) -> list[int]:
    """The sample's own tokens up to where its text ends: without the end token, or those that hold the stop string.

    A token that ends the thought and begins the stop string goes with the latter: nothing is encoded again.
    """
    end = len(sample.tokens)
    while end and (
        sample.tokens[end - 1] in special
        or not sample.text.startswith(tokenizer.decode(sample.tokens[:end], skip_special_tokens=True))
    ):
        end -= 1
    return sample.tokens[:end]


@torch.no_grad()
def predicted(policy: Policy, rows: Sequence[Row], tokens_per_microbatch: int) -> list[tuple[float, bool]]:
    """Of each row the log-probability of its actions together, in nats, and whether each of them is the likeliest.

    All rows must have the same number of actions.
    """
    found = [(0.0, False)] * len(rows)
    longest = max((len(row.context) + len(row.tokens) for row in rows), default=0)
    for batch in pack(rows, max(longest, tokens_per_microbatch)):
        states_AD = policy.states(batch)
        logprobs_A, _ = policy.score_states(states_AD, batch)
        totals = logprobs_A.double().view(batch.sequences, -1).sum(1).tolist()
        right = policy.guessed(states_AD, batch).view(batch.sequences, -1).all(1).tolist()
        for index, *one in zip(batch.rows, totals, right, strict=True):
            found[index] = (one[0], one[1])
    return found


def check_contexts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], horizon: int, context: int, where: str
) -> None:
    """Raises DataError where the contexts are another tokenizer's, or with what follows them are too long or short.

    Args:
        context: the longest sequence of the model.
    """
    for prompt in prompts:
        own, following = prompt.meta["context_tokens"], prompt.meta["tokens"]
        if encode_plain(tokenizer, prompt.meta["context"]) != list(own):
            raise DataError(
                f"{where}: position {prompt.id!r} was cut by another tokenizer than '{tokenizer.name_or_path}'; run a "
                "`positions` stage with this model"
            )
        if len(following) < horizon:
            raise DataError(
                f"{where}: position {prompt.id!r} was kept with {len(following)} tokens after it, and horizon = "
                f"{horizon}; lower that, or raise the horizon of the `positions` stage"
            )
        if len(own) + horizon > context:
            raise DataError(
                f"{where}: position {prompt.id!r} has {len(own)} tokens before it, and {horizon} after it do not fit "
                f"into the model's context of {context}; lower the `context` of the `positions` stage"
            )


def check_thoughts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    closing: str,
    horizon: int,
    context: int,
    where: str,
) -> None:
    """Raises DataError where a prompt, a thought, its closing and the prediction would run over the model's context."""
    after = len(encode_plain(tokenizer, closing, first=False)) + horizon
    longest = check_prompts(tokenizer, prompts, sampling, context, where)
    if longest + sampling.max_new_tokens + after > context:
        raise DataError(
            f"{where}: a prompt of {longest} tokens, a thought of max_new_tokens = {sampling.max_new_tokens}, and "
            f"{after} more for its closing and the prediction run over the model's context of {context}; set "
            f"max_new_tokens to {context - longest - after} or less, or lower the `context` of the `positions` stage"
        )


def _row(context: tuple[int, ...], before: tuple[int, ...], prompt: Prompt, group: int, horizon: int) -> Row:
    target = tuple(prompt.meta["tokens"][:horizon])
    return Row(context, (*before, *target), group, (False,) * len(before) + (True,) * len(target))
