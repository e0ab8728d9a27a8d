"""What is judged of an answer: all of it, or what follows the end of thinking, to the token."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.rewards.test_judge import Server, judge, samples, server  # noqa: F401
from tests.stages.test_dense_rewards import RUN, groups_of, scorer
from tests.stages.test_local_judge import group, tiny  # noqa: F401
from tests.stages.test_local_judge import judge as local_judge
from tests.tiny import tiny_tokenizer
from tutelage.data.answers import tokens_after
from tutelage.errors import ConfigError, ModelError
from tutelage.rewards import build_reward
from tutelage.rewards.base import outcomes, outcomes_together
from tutelage.stages.model_rewards import MODEL_REWARDS, ModelReward
from tutelage.types import Message, Prompt

MARK = "</think>"
PROMPT = Prompt("p", (Message("user", "What is 6 * 7?"),))


class Pieces:
    """A tokenizer whose tokens are these texts."""

    name_or_path, eos_token_id = "pieces", 99

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(self.pieces[token] for token in tokens)


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (["so", "</think>", "it", "."], [2, 3]),
        (["so", "</", "think", ">", "it", "."], [4, 5]),
        (["so</thi", "nk>\n", "it"], [2]),  # the line break belongs to the token that ends the mark
        (["</think>", "a", "</think>", "b"], [3]),  # the last one counts
        (["</think>", "b"], [1]),
        (["so", "</think>"], [99]),
        (["so", "</thin", "k"], [99]),
        (["so"], [99]),
    ],
)
def test_the_tokens_after_the_mark(pieces: list[str], kept: list[int]) -> None:
    assert tokens_after(Pieces(*pieces), list(range(len(pieces))), MARK) == kept  # type: ignore[arg-type]


def test_half_of_a_character_before_the_mark_does_no_harm() -> None:
    tokenizer = tiny_tokenizer()
    for thought, answer in (("naïve – 数", "die Größe"), ("", "4"), ("a </think", " b")):
        before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (thought + MARK, answer))
        assert tokens_after(tokenizer, [*before, *after, 2], MARK) == [*after, 2]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    endless = SimpleNamespace(name_or_path="endless", eos_token_id=None)
    with pytest.raises(ModelError, match="'endless' has no end-of-text token"):
        tokens_after(endless, [1], MARK)  # type: ignore[arg-type]


def test_a_reward_model_sees_the_very_tokens_of_the_answer(tmp_path: Path) -> None:
    """Equal to its score of those tokens by themselves; without an answer, of the end token."""
    name = scorer(tmp_path, 1, None)

    def scores(reads: Any, *texts: str) -> Any:
        return outcomes_together(
            ModelReward(models=(name,), reads=reads, per_token=0.25).loaded(RUN), groups_of(*texts)
        )

    thoughts = ("we add</think>42", "hm</think> no, wait</think>It is 42.", "never an end")
    assert scores("answer", *thoughts) == pytest.approx(scores("whole", "42", "It is 42.", ""), abs=1e-5)
    assert scores("whole", thoughts[0]) != pytest.approx(scores("answer", thoughts[0]), abs=1e-3)


def test_a_judge_is_shown_the_answer_alone(server: Server) -> None:  # noqa: F811
    server.reply = lambda text: (200, "[[10]]" if "secret" in text else "[[1]]")
    given = samples("secret</think> 5", "x</think> secret", "secret without an end", "y</think> ")
    assert outcomes(judge(server, reads="answer"), PROMPT, given) == [0.0, 1.0, 0.0, 0.0]
    assert len(server.asked) == 2  # what holds no answer is not shown
    assert outcomes(judge(server), PROMPT, given[:3]) == [1.0, 1.0, 1.0]
    assert outcomes(judge(server, reads="answer", think="why"), PROMPT, samples("a</why> secret")) == [1.0]


def test_a_judge_on_this_machine_is_shown_the_answer_alone(tiny: Path) -> None:  # noqa: F811
    told = outcomes_together(local_judge(tiny, reads="answer"), [group(PROMPT, "a</think>42", "b</think>41")])
    assert told == outcomes_together(local_judge(tiny), [group(PROMPT, "42", "41")])


@pytest.mark.parametrize(
    "table",
    [
        {"type": "reward-model", "models": ["m"]},
        {"type": "judge", "url": "http://localhost/v1", "model": "m"},
        {"type": "local-judge", "model": "m"},
    ],
)
def test_what_has_no_effect_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="think: is for reads = 'answer'"):
        build_reward({**table, "think": "why"}, "rewards[0]", MODEL_REWARDS)
    with pytest.raises(ConfigError, match="reads: with dense every token of the answer has its reward"):
        build_reward({"type": "reward-model", "models": ["m"], "dense": True, "reads": "answer"}, "r", MODEL_REWARDS)
