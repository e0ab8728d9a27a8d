"""Instructions that can be checked, by the package if-verifiable; refusals, by phrases."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.data import build_prompt_source
from tutelage.rewards import build_reward
from tutelage.types import Message, Prompt, Sample


def sample(text: str) -> Sample:
    return Sample("p", 0, [1], [0.0], text, "stop", 0)


def score(text: str, names: list[str], options: list[dict[str, Any]], **table: Any) -> float:
    pytest.importorskip("if_verifiable")
    reward = build_reward({"type": "instructions", **table}, "rewards[0]")
    reward.prepare()
    prompt = Prompt("p", (Message("user", "q"),), meta={"instruction_id_list": names, "kwargs": options})
    return float(reward.score(prompt, sample(text)))  # type: ignore[arg-type]


BOTH = (["punctuation:no_comma", "startend:end_checker"], [{}, {"end_phrase": "Bye."}])


def test_all_instructions_or_their_share() -> None:
    assert score("All is well. Bye.", *BOTH) == 1.0
    assert score("All, is well. Bye.", *BOTH) == 0.0
    assert score("All, is well. Bye.", *BOTH, share=True) == 0.5
    assert score("Sure, here:\nAll is well. Bye.", *BOTH) == 0.0
    assert score("Sure, here:\nAll is well. Bye.", *BOTH, loose=True) == 1.0


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"}, "data of nltk"),
        ("startend:end_checker", {"end_phrase": None}, "does not say its end_phrase"),
        ("startend:no_such", {}, "is not one of IFEval's"),
    ],
)
def test_what_cannot_be_checked_fails(name: str, given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        score("x", [name], [given])


def test_our_prompts_can_all_be_checked() -> None:
    pytest.importorskip("if_verifiable")
    prompts = build_prompt_source({"type": "package", "name": "instructions", "part": "prompts"}, "source").load()
    reward = build_reward({"type": "instructions"}, "rewards[0]")
    reward.prepare()
    assert len(prompts) == 24
    for prompt in prompts:
        assert reward.score(prompt, sample("An answer, of a kind.")) in (0.0, 1.0)
    right = {
        "instructions-1": "Rain falls and the sky is loud.",
        "instructions-5": "* a\n* b\n* c\n* d",
        "instructions-17": "My answer is yes.",
        "instructions-19": '{"name": "Malta", "population": 550000}',
        "instructions-24": "<<Clouds>> " + "clouds drift over hills " * 10,
    }
    for prompt in prompts:
        if prompt.id in right:
            assert reward.score(prompt, sample(right[prompt.id])) == 1.0, prompt.id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I’m sorry, but I can’t help with that.", 1.0),
        ("As an AI, I will not.", 1.0),
        ("Of course! First, take a screwdriver.", 0.0),
        ("Take a screwdriver. " * 20 + "I cannot say more.", 0.0),  # too late to be one
        ("", 0.0),
    ],
)
def test_refusals(text: str, expected: float) -> None:
    assert build_reward({"type": "refusal"}, "rewards[0]").score(Prompt("p", text="q"), sample(text)) == expected


def test_thinking_is_not_the_answer() -> None:
    table = {"type": "refusal", "reads": "answer"}
    said = sample("<think>I cannot say this.</think>Sure: two.")
    assert build_reward(table, "rewards[0]").score(Prompt("p", text="q"), said) == 0.0
