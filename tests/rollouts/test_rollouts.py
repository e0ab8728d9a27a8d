"""Prompts in, groups out: the order of questions, what a sample carries, what is recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import tiny_tokenizer
from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.data.journal import Journal
from tutelage.engines import Completion, Finished, Request, ScriptedEngine, Watch
from tutelage.errors import DataError
from tutelage.rollouts import check_prompts, places_of_step, prompts_of_step, question, record_samples, roll_out
from tutelage.rollouts.roll_out import prompts_begun
from tutelage.types import Group, Message, Prompt

PROMPTS = [Prompt(f"p{i}", messages=(Message("user", f"What is {i} + 1?"),), answer=str(i + 1)) for i in range(7)]


def answering(text: str) -> ScriptedEngine:
    tokens = tiny_tokenizer().encode(text, add_special_tokens=False)

    def script(request: Request, index: int) -> Completion:
        return Completion([*tokens, 2], [-0.5] * (len(tokens) + 1), "stop", version=3)

    return ScriptedEngine(script)


def test_every_epoch_asks_every_prompt_once_in_an_order_of_its_own() -> None:
    asked = [place for step in range(14) for place in places_of_step(7, step, 4, seed=1)]  # 56 = 8 epochs of 7
    epochs = [tuple(asked[i : i + 7]) for i in range(0, 56, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) > 4
    assert asked != [place for step in range(14) for place in places_of_step(7, step, 4, seed=2)]
    # A step is a function of its number alone: a resumed run asks what the interrupted one would have.
    assert [p.id for p in prompts_of_step(PROMPTS, 9, 4, seed=1)] == [f"p{place}" for place in asked[36:40]]


def test_a_step_may_ask_more_prompts_than_there_are() -> None:
    assert Counter(places_of_step(3, 0, 7, seed=0)).total() == 7
    assert min(Counter(places_of_step(3, 0, 7, seed=0)).values()) >= 2


def test_a_sample_carries_the_engines_tokens_and_the_prompts() -> None:
    groups = roll_out(answering("The answer is 7."), tiny_tokenizer(), PROMPTS[:2], 3, Sampling(), seed=0)
    assert [group.prompt.id for group in groups] == ["p0", "p1"]
    assert groups[1].prompt_tokens == tuple(render_prompt(tiny_tokenizer(), PROMPTS[1]))
    sample = groups[1].samples[2]
    assert (sample.prompt_id, sample.index, sample.version, sample.finish) == ("p1", 2, 3, "stop")
    assert sample.text == "The answer is 7."  # without the end token, which stays among the tokens
    assert sample.tokens[-1] == 2
    assert len(sample.logprobs) == len(sample.tokens)


def test_a_prompt_that_comes_again_has_noise_of_its_own_and_the_others_keep_theirs() -> None:
    seeds = [begun.seed for begun in prompts_begun(tiny_tokenizer(), [*PROMPTS[:2], PROMPTS[0]], 5)]
    assert seeds[:2] == [begun.seed for begun in prompts_begun(tiny_tokenizer(), PROMPTS[:2], 5)]
    assert len(set(seeds)) == 3


class EndsBackwards(ScriptedEngine):
    """An engine whose last request is finished first."""

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        groups = super().generate(requests, sampling, watch)
        for number in reversed(range(len(requests))):
            assert finished
            finished(number, groups[number])
        return groups


def test_a_group_is_passed_on_when_it_ends_and_returned_in_its_place() -> None:
    engine, told = EndsBackwards(answering("7").script), list[Group]()
    groups = roll_out(engine, tiny_tokenizer(), PROMPTS[:3], 2, Sampling(), seed=0, finished=told.append)
    assert [group.prompt.id for group in told] == ["p2", "p1", "p0"]
    assert all(a is b for a, b in zip(groups, reversed(told), strict=True))  # what is scored is what is returned
    assert [len(group.prompt_tokens) for group in groups] == [
        len(render_prompt(tiny_tokenizer(), prompt)) for prompt in PROMPTS[:3]
    ]


def test_an_answer_is_as_long_as_its_prompt_and_the_sampling_allow() -> None:
    prompts = [PROMPTS[0], replace(PROMPTS[1], most=3), replace(PROMPTS[2], most=300)]
    whole = len(tiny_tokenizer().encode("The answer is 7.", add_special_tokens=False)) + 1
    assert whole > 4
    for room, lengths in ((100, [whole, 3, whole]), (4, [4, 3, 4])):
        groups = roll_out(
            answering("The answer is 7."), tiny_tokenizer(), prompts, 2, Sampling(max_new_tokens=room), seed=0
        )
        assert [[len(sample.tokens) for sample in group.samples] for group in groups] == [[n, n] for n in lengths]
        assert [group.samples[0].finish for group in groups][1] == "length"


def test_a_text_ends_before_its_stop_string_and_keeps_its_tokens() -> None:
    sampling = Sampling(stop=("answer", "is"))
    (group,) = roll_out(answering("The answer is 7."), tiny_tokenizer(), PROMPTS[:1], 1, sampling, seed=0)
    assert group.samples[0].text == "The "
    assert tiny_tokenizer().decode(group.samples[0].tokens[:-1]) == "The answer is 7."


def test_noise_belongs_to_the_prompt_not_to_its_place() -> None:
    seeds: dict[str, int] = {}

    def script(request: Request, index: int) -> Completion:
        seeds[str(request.tokens)] = request.seed
        return Completion([2], [-1.0], "stop", 0)

    roll_out(ScriptedEngine(script), tiny_tokenizer(), PROMPTS, 1, Sampling(), seed=5)
    first = dict(seeds)
    roll_out(ScriptedEngine(script), tiny_tokenizer(), PROMPTS[::-1], 1, Sampling(), seed=5)
    assert seeds == first
    assert len(set(seeds.values())) == len(PROMPTS)
    roll_out(ScriptedEngine(script), tiny_tokenizer(), PROMPTS, 1, Sampling(), seed=6)
    assert not set(seeds.values()) & set(first.values())


def test_every_sample_is_recorded_with_its_failure(tmp_path: Path) -> None:
    groups = roll_out(answering("7"), tiny_tokenizer(), PROMPTS[:2], 2, Sampling(), seed=0)
    groups[0].samples[0].reward, groups[0].samples[0].rewards = 1.0, {"task": 1.0}
    groups[0].samples[1].failure = "task: timed out after 1 s"
    groups[1].samples[0].token_rewards = [0.25]
    journal = Journal(tmp_path / "samples.jsonl")
    record_samples(journal, "grpo", 4, groups)
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert lines[0] == {
        "stage": "grpo", "step": 4, "prompt_id": "p0", "index": 0, "prompt": "What is 0 + 1?", "answer": "1",
        "text": "7", "tokens": len(groups[0].samples[0].tokens), "finish": "stop", "reward": 1.0,
        "rewards": {"task": 1.0}, "failure": None, "version": 3, "ids": groups[0].samples[0].tokens,
        "logprobs": groups[0].samples[0].logprobs,
    }  # fmt: skip
    assert (lines[1]["reward"], lines[1]["failure"]) == (None, "task: timed out after 1 s")
    assert lines[2]["token_rewards"] == [0.25]


def test_the_question_is_what_was_asked_last() -> None:
    turns = (Message("system", "s"), Message("user", "first"), Message("assistant", "a"), Message("user", "second"))
    assert question(Prompt("x", messages=turns)) == "second"
    assert question(Prompt("x", text="plain")) == "plain"


def test_prompts_that_run_over_the_context_are_named() -> None:
    longest = max(len(render_prompt(tiny_tokenizer(), prompt)) for prompt in PROMPTS)
    assert check_prompts(tiny_tokenizer(), PROMPTS, Sampling(max_new_tokens=10), longest + 10, "grpo") == longest
    with pytest.raises(DataError, match=rf"grpo: prompt 'p0' has {longest} tokens; with max_new_tokens = 11 it runs"):
        check_prompts(tiny_tokenizer(), PROMPTS, Sampling(max_new_tokens=11), longest + 10, "grpo")
    with pytest.raises(DataError, match=r"shorten the prompt, or set max_new_tokens to 10 or less$"):
        check_prompts(tiny_tokenizer(), PROMPTS, Sampling(max_new_tokens=11), longest + 10, "grpo")
    with pytest.raises(DataError, match=rf"context of {longest}; shorten the prompt$"):  # no setting would fit
        check_prompts(tiny_tokenizer(), PROMPTS, Sampling(max_new_tokens=1), longest, "grpo")
