"""How rows are cut into micro-batches: as few as the budget allows, and even."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.packing import Row, pack
from tutelage.errors import DataError


def row(tokens: int, group: int = 0, context: int = 0, skipped: bool = False) -> Row:
    return Row((1,) * context, (2,) * tokens, group, skipped=skipped)


def sizes(rows: list[Row], budget: int) -> list[int]:
    return [len(batch.tokens_N) for batch in pack(rows, budget)]


def test_a_full_batch_and_a_nearly_empty_one_become_two_halves() -> None:
    assert sizes([row(10, i) for i in range(11)], 100) == [60, 50]
    assert sizes([row(10, i) for i in range(10)], 100) == [100]
    assert sizes([row(10, i) for i in range(21)], 100) == [70, 70, 70]


def test_a_group_that_is_cut_has_its_context_in_both() -> None:
    rows = [row(10, 0, context=30) for _ in range(8)]
    assert sizes(rows, 200) == [110]
    assert sizes(rows, 80) == [70, 70]


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(DataError, match="set it to 41 or more"):
        pack([row(5), row(11, 1, context=30)], 40)
    with pytest.raises(DataError, match="set it to 41"):
        pack([row(11, 1, context=30, skipped=True)], 40)


def test_groups_stay_whole_where_their_answers_are_compared() -> None:
    rows = [row(10, number // 4, context=30) for number in range(12)]  # 70 positions a group
    cut = pack(rows, 150)
    assert [batch.rows for batch in cut] == [(0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10, 11)]
    whole = pack(rows, 150, whole_groups=True)
    assert [batch.rows for batch in whole] == [(0, 1, 2, 3, 4, 5, 6, 7), (8, 9, 10, 11)]
    assert [batch.prompts for batch in whole] == [2, 1]
    with pytest.raises(DataError, match=r"a group of 4 sequences of 70 tokens .* set it to 70 or more"):
        pack(rows, 69, whole_groups=True)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=30), st.integers(40, 200))
def test_every_row_is_in_one_batch_within_the_budget_and_there_are_no_more_than_need_be(
    lengths: list[tuple[int, bool]], budget: int
) -> None:
    rows = [row(tokens, number, skipped=skipped) for number, (tokens, skipped) in enumerate(lengths)]
    batches = pack(rows, budget)
    assert [index for batch in batches for index in batch.rows] == [i for i, r in enumerate(rows) if not r.skipped]
    assert all(len(batch.tokens_N) <= budget for batch in batches)
    greedy, used = 0, budget + 1
    for tokens, skipped in lengths:
        if not skipped:
            greedy, used = (greedy + 1, tokens) if used + tokens > budget else (greedy, used + tokens)
    assert len([batch for batch in batches if batch.rows]) == greedy
    assert sum(batch.skipped_sequences for batch in batches) == sum(skipped for _, skipped in lengths)
