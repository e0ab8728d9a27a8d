"""Rolling out: prompts in, groups of samples out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.engines import Completion, Engine, Request
from tutelage.errors import DataError
from tutelage.seeds import derive_seed
from tutelage.types import Group, Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def roll_out(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    completions: int,
    sampling: Sampling,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
    finished: Callable[[Group], None] | None = None,
) -> list[Group]:
    """Samples `completions` answers to each prompt. The noise of a sample depends on `seed`, its prompt and its index.

    Args:
        watch: told the finished sequences and the tokens written so far.
        finished: given each group as soon as its last sample is written, in whatever order they end.
    """
    rendered = [tuple(render_prompt(tokenizer, prompt)) for prompt in prompts]
    requests = [
        Request(tokens, completions, derive_seed(seed, prompt.id))
        for tokens, prompt in zip(rendered, prompts, strict=True)
    ]
    groups: dict[int, Group] = {}

    def take(number: int, completions: Sequence[Completion]) -> None:
        prompt = prompts[number]
        samples = [_sample(tokenizer, sampling, prompt, i, completion) for i, completion in enumerate(completions)]
        groups[number] = Group(prompt, rendered[number], samples)
        if finished:
            finished(groups[number])

    engine.generate(requests, sampling, watch, take)
    return [groups[number] for number in range(len(requests))]


def _sample(
    tokenizer: PreTrainedTokenizerBase, sampling: Sampling, prompt: Prompt, index: int, completion: Completion
) -> Sample:
    text = tokenizer.decode(completion.tokens, skip_special_tokens=True)
    for word in sampling.stop:  # the answer ends before its stop string; its tokens stay, the model wrote them
        text = text.split(word, 1)[0]
    return Sample(
        prompt_id=prompt.id,
        index=index,
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        text=text,
        finish=completion.finish,
        version=completion.version,
    )


def check_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], sampling: Sampling, context: int, where: str
) -> int:
    """The tokens of the longest prompt. Raises DataError where one and its answer would run over the context."""
    longest = 0
    for prompt in prompts:
        tokens = len(render_prompt(tokenizer, prompt))
        if tokens + sampling.max_new_tokens > context:
            room = context - tokens
            remedy = (
                f"shorten the prompt, or set max_new_tokens to {room} or less" if room > 0 else "shorten the prompt"
            )
            raise DataError(
                f"{where}: prompt {prompt.id!r} has {tokens} tokens; with max_new_tokens = {sampling.max_new_tokens} "
                f"it runs over the model's context of {context}; {remedy}"
            )
        longest = max(longest, tokens)
    return longest
