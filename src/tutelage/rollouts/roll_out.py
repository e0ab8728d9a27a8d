"""Rolling out: prompts in, groups of samples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.engines import Completion, Engine, Request
from tutelage.errors import DataError
from tutelage.seeds import derive_seed
from tutelage.types import Group, Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is gone on with: a prompt, and perhaps the first tokens of an answer to it."""

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    seed: int
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


def roll_out(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    completions: int | Sequence[int],
    sampling: Sampling,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
    finished: Callable[[Group], None] | None = None,
) -> list[Group]:
    """Samples `completions` answers to each prompt. The noise of a sample depends on `seed`, its prompt and its index.

    Args:
        completions: as many to each, or a number for each.
        watch: told the finished sequences and the tokens written so far.
        finished: given each group as soon as its last sample is written, in whatever order they end.
    """
    return go_on(engine, tokenizer, prompts_begun(tokenizer, prompts, seed), completions, sampling, watch, finished)


def prompts_begun(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], seed: int) -> list[Beginning]:
    """Each prompt, to be answered from the start. One that comes again is answered anew: with noise of its own."""
    times, begun = Counter[str](), list[Beginning]()
    for prompt in prompts:
        again = (times[prompt.id],) if times[prompt.id] else ()
        times[prompt.id] += 1
        begun.append(Beginning(prompt, tuple(render_prompt(tokenizer, prompt)), derive_seed(seed, prompt.id, *again)))
    return begun


def go_on(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    beginnings: Sequence[Beginning],
    completions: int | Sequence[int],
    sampling: Sampling,
    watch: Callable[[int, int], None] | None = None,
    finished: Callable[[Group], None] | None = None,
) -> list[Group]:
    """Goes on `completions` times from each beginning: a group of whole answers for each, which begin alike.

    An answer is as long as `sampling` and its prompt allow, its beginning included. Tokens are gone on with, never
    text.
    """
    counts = [completions] * len(beginnings) if isinstance(completions, int) else completions
    requests = [
        Request(
            (*begun.prompt_tokens, *begun.tokens),
            count,
            begun.seed,
            most=sampling.room(begun.prompt.most) - len(begun.tokens),
        )
        for begun, count in zip(beginnings, counts, strict=True)
    ]
    groups: dict[int, Group] = {}

    def take(number: int, completions: Sequence[Completion]) -> None:
        begun = beginnings[number]
        samples = [_sample(tokenizer, sampling, begun, i, completion) for i, completion in enumerate(completions)]
        groups[number] = Group(begun.prompt, begun.prompt_tokens, samples)
        if finished:
            finished(groups[number])

    engine.generate(requests, sampling, watch, take)
    return [groups[number] for number in range(len(requests))]


def _sample(
    tokenizer: PreTrainedTokenizerBase, sampling: Sampling, begun: Beginning, index: int, completion: Completion
) -> Sample:
    tokens = [*begun.tokens, *completion.tokens]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    for word in sampling.stop:  # the answer ends before its stop string; its tokens stay, the model wrote them
        text = text.split(word, 1)[0]
    return Sample(
        prompt_id=begun.prompt.id,
        index=index,
        tokens=tokens,
        logprobs=[*begun.logprobs, *completion.logprobs],
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
