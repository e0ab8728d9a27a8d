"""Values as lines, and whether two are the same."""

from __future__ import annotations

import math

import pytest

from tutelage.sandbox.comparing import same, same_text
from tutelage.sandbox.values import dumps, loads

VALUES = [
    None, True, 0, -1, 1 << 53, -(3**400), 10**6000, 0.1, -0.0, math.inf, "", "ü\ud800\n", b"\x00\xff", 2 + 3j, [],
    [1, [2]], (), (1, (2, [3])), {1, 2}, frozenset({"a"}), {}, {"dict": 1}, {"tuple": [1]},
    {1: "a", (1, 2): {"b": None}, None: 0},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    line = dumps(value)
    assert "\n" not in line
    assert same(loads(line), value)
    assert type(loads(line)) is type(value)


def test_not_a_number_comes_back() -> None:
    assert math.isnan(loads(dumps(math.nan)))


class Sly(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [Sly(3), [Sly(3)], {"a": Sly(3)}, object(), len, range(3), type("L", (list,), {})()])
def test_what_is_not_built_in_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a built-in type"):
        dumps(value)


@pytest.mark.parametrize(
    "line",
    ['{"int": 3}', '{"int": "0x1", "b": 1}', "{}", '{"list": []}', '{"bytes": "x"}', '{"complex": [1]}', "{",
     "[" * 100_000, '{"set": [[1]]}', '{"dict": [1]}', '{"dict": [[[1], 2]]}', "1" * 5000],
    ids=lambda line: line[:20],
)  # fmt: skip
def test_a_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the words are json's
        loads(line)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, 1), (1, True), (1, 1.0), (1.0, 1), ("1", 1), ([1], (1,)), ((1,), [1]), (None, 0), (b"a", "a"),
        ([1], [True]), ({1: 2}, {True: 2}), ({1}, {True}), ({"a": 1}, {"a": 1.0}), ([1, 2], [2, 1]), ([1], [1, 1]),
        (0.1 + 0.2, 0.3), (math.nan, 1.0), (1 + 0j, 1.0), ({1: 2}, {1: 2, 3: 4}), (math.inf, -math.inf),
        (1.0, math.nan),
    ],
)  # fmt: skip
def test_other_values_are_not_the_same(given: object, expected: object) -> None:
    assert not same(given, expected)


def test_floats_are_the_same_within_a_tolerance_that_the_task_gives() -> None:
    assert same([0.1 + 0.2, (1.0,)], [0.3, (1.0 + 1e-9,)], 1e-6)
    assert same({"a": 1 + 1e-9j}, {"a": 1 + 0j}, 1e-6)
    assert not same(0.31, 0.3, 1e-6)
    assert not same(1, 1.0, 1e-6)
    assert not same(math.nan, 0.3, 1e9)
    assert same(math.nan, math.nan)


def test_a_value_deeper_than_python_goes_is_another() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert not same(deep, list(deep))


def test_printed_text_is_the_same_but_for_space_at_the_ends() -> None:
    assert same_text("1 2 \n3\n\n", "1 2\n3")
    assert not same_text("1  2", "1 2")
    assert not same_text("12", "1\n2")
    assert not same_text("", "0")
