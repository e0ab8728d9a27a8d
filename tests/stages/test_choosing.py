"""The rules of rejection sampling against groups made by hand, and the balance of difficulties."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.config import RejectionStage
from tutelage.errors import ConfigError
from tutelage.stages.choosing import Answer, balanced, choose, success_rate


def stage(**fields: Any) -> RejectionStage:
    return RejectionStage(type="rejection", name="r", environment="e", **fields)


def answer(index: int, reward: float | None, text: str = "so it is", tokens: int = 5, cut: bool = False) -> Answer:
    return Answer(index, text, tokens, cut, reward, {}, 0)


GROUP = [
    answer(0, 0.0, "nine", tokens=1),
    answer(1, 1.0, "the sum of two and three is five", tokens=9),
    answer(2, 0.5, "perhaps five", tokens=3),
    answer(3, 1.0, "five", tokens=2),
    answer(4, 1.0, "the sum of two and three is 5", tokens=10),
    answer(5, 2.0, "cut off", tokens=12, cut=True),
    answer(6, None, "", tokens=0),
]


def chosen(group: list[Answer], *rules: str, **fields: Any) -> list[int]:
    return [one.index for one in choose(group, stage(choose=rules, **fields))]


@pytest.mark.parametrize(
    ("rules", "fields", "kept"),
    [
        (["correct"], {}, [1, 3, 4]),
        (["correct"], {"most": 2}, [1, 3]),
        (["correct"], {"least": 0.5}, [1, 3, 4, 2]),
        (["correct"], {"least": 1.5}, []),  # the only one was cut off
        (["best"], {}, [1]),
        (["correct", "first"], {}, [1]),
        (["correct", "shortest"], {}, [3]),
        (["shortest"], {}, [0]),
        (["correct", "diverse"], {"distance": 0.5}, [1, 3]),
        (["correct", "diverse"], {"distance": 0.1}, [1, 3, 4]),
        (["diverse"], {"distance": 1.0}, [1, 0]),  # "five" stands in the first one, and in "perhaps five"
        (["margin"], {"margin": 0.01}, []),  # the median of all is 1
        (["margin"], {"margin": 1.0, "over": "worst"}, [1]),
        (["margin"], {"margin": 1.01, "over": "worst"}, []),
    ],
)
def test_each_rule_leaves_what_it_should(rules: list[str], fields: dict[str, Any], kept: list[int]) -> None:
    assert chosen(GROUP, *rules, **fields) == kept


def test_a_margin_is_over_what_all_answers_are_worth() -> None:
    group = [answer(0, -1.0), answer(1, 0.0), answer(2, 2.0), answer(3, -9.0, cut=True)]
    assert chosen(group, "margin", margin=2.5) == [2]  # over the median of -9, -1, 0, 2
    assert chosen(group, "margin", margin=2.6) == []


def test_nothing_rewarded_is_nothing_chosen() -> None:
    group = [answer(0, None), answer(1, None)]
    for rule in ("correct", "best", "first", "shortest", "diverse"):
        assert chosen(group, rule) == []
    assert success_rate(group, 1.0) is None
    assert chosen([answer(0, 1.0, text=" \n"), answer(1, 1.0, text="a\0b")], "correct") == []


def test_the_success_rate_is_of_all_that_were_rewarded() -> None:
    assert success_rate(GROUP, 1.0) == 4 / 6
    assert success_rate(GROUP, 0.5) == 5 / 6


RATES = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.8, "e": 0.9, "f": 1.0, "g": 0.75, "h": 0.76}


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (1.0, {"a", "c", "d"}),  # one of each quarter that has any
        (2.0, {"a", "b", "c", "d", "e"}),
        (2.9, {"a", "b", "c", "d", "e"}),
        (5.0, set(RATES)),
    ],
)
def test_no_quarter_has_more_than_its_share(ratio: float, kept: set[str]) -> None:
    assert balanced(RATES, ratio, ord) == kept


def test_the_order_says_which_are_kept() -> None:
    assert balanced(RATES, 1.0, lambda name: -ord(name)) == {"b", "c", "h"}
    assert balanced({}, 1.0, ord) == set()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"choose": "corect"}, "choose"),
        ({"choose": []}, "choose"),
        ({"margin": 1.0}, "margin: is for choose = 'margin'"),
        ({"choose": "margin"}, "margin: choose = 'margin' wants one"),
        ({"distance": 0.5}, "distance: is for choose = 'diverse'"),
        ({"over": "worst"}, "over: is for choose = 'margin'"),
        ({"balance": 0.5}, "balance"),
        (
            {"by": {"url": "http://x", "model": "m"}, "sampling": {"top_k": 5}},
            r"sampling\.top_k: a server is not asked",
        ),
    ],
)
def test_mistakes_are_refused(fields: dict[str, Any], words: str) -> None:
    from tutelage.config import validate

    table = {"type": "rejection", "name": "r", "environment": "e", **fields}
    with pytest.raises(ConfigError, match=words):
        validate(RejectionStage, table, "stage[0]")
    assert stage(choose="best").choose == ("best",)
