"""The reward `majority`: votes by hand, ties, samples without an answer; the gold answer is never looked at."""

import pytest

from tests.rewards.made import group, sample, scored
from tutelage.environments import build_environment
from tutelage.errors import ConfigError
from tutelage.rewards import MajorityReward, build_reward
from tutelage.types import Prompt


def votes(*texts, prompt=Prompt("p", text="?"), **fields):  # noqa: B008
    return MajorityReward(**fields).score_group(prompt, [sample(text) for text in texts])


def test_the_most_frequent_number_wins():
    assert votes("so 7", "It is 7.", "8", "7.0", "none") == [1, 1, 0, 1, 0]
    assert votes("1", "2", "2") == [0, 1, 1]


def test_of_equally_many_votes_the_first_answer_wins():
    assert votes("3", "5", "5", "3") == [1, 0, 0, 1]
    assert votes("5", "3", "3", "5") == [1, 0, 0, 1]
    assert votes("a", "b", "6", "7") == [0, 0, 1, 0]


def test_no_answer_is_no_vote():
    assert votes("none", "nothing", "no idea", "4") == [0, 0, 0, 1]
    assert votes("none", "nothing") == [0, 0]
    assert MajorityReward().score(Prompt("p", text="?"), sample("4")) == 1


@pytest.mark.parametrize(
    ("by", "texts", "expected"),
    [
        ("exact", ("Paris.", "paris", "London", ""), [1, 1, 0, 0]),
        ({"type": "exact", "tag": "answer"}, ("Rome", "Rome", "<answer>Oslo</answer>"), [0, 0, 1]),
        ({"type": "numeric", "tolerance": 0.5}, ("3.0", "3.4", "9"), [1, 1, 0]),
        ({"type": "numeric", "strict": True}, ("it is 3", "so 3", "4."), [0, 0, 1]),
    ],
)
def test_answers_are_read_as_the_reward_does_it(by, texts, expected):
    assert votes(*texts, by=by) == expected


def test_equal_mathematics_is_one_answer_and_nonsense_spoils_no_group():
    pytest.importorskip("math_verify")
    texts = (r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"\boxed{7}", r"\boxed{7}", r"\boxed{2/4}", r"\boxed{9^{9^{9^9}}}")
    samples = scored({"type": "majority", "by": "maths"}, [group(*texts, r"\boxed{so what}", "none")])
    assert [one.reward for one in samples] == [1, 1, 0, 0, 1, 0, 0, 0]
    for place in range(3):  # what can be compared with nothing costs nobody his vote
        texts = [r"\boxed{4}", r"\boxed{4}", r"\boxed{3}"]
        texts.insert(place, r"\boxed{\frac{1}{0}}")
        samples = scored({"type": "majority", "by": "maths"}, [group(*texts)])
        assert [one.reward for one in samples] == [float(text == r"\boxed{4}") for text in texts]


class Sealed:
    """A prompt that must not be asked for its answer."""

    id, text, messages, part = "p", "?", (), None

    @property
    def answer(self):
        raise AssertionError("the gold answer was looked at")


def test_the_gold_answer_is_never_read():
    assert votes("1", "1", "2", prompt=Sealed()) == [1, 1, 0]
    assert votes("1", "1", "2", prompt=Prompt("p", text="?", answer="2")) == [1, 1, 0]


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("nummeric", r"rewards\[0\]\.by\.type: unknown 'nummeric': did you mean 'numeric'"),
        ({"type": "exact", "weight": 2.0}, r"rewards\[0\]\.by\.weight: has no use here"),
    ],
)
def test_mistakes_are_refused(by, words):
    with pytest.raises(ConfigError, match=words):
        build_reward({"type": "majority", "by": by}, "rewards[0]")


def test_a_scorer_of_questions_has_no_weight(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    train = {"type": "jsonl", "path": str(tmp_path / "a.jsonl")}
    table = {"type": "questions", "train": train, "scorer": {"type": "numeric", "weight": 2.0}}
    with pytest.raises(ConfigError, match=r"e\.scorer\.weight: has no use here; it is for an entry of a stage's"):
        build_environment(table, "e")
