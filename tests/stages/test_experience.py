"""From groups to credited rows: whose number lands on which token."""

from __future__ import annotations

import pytest
import torch

from tests.stages.test_skipping import groups
from tutelage.algorithms import DrGrpo, Ppo
from tutelage.data.packing import pack
from tutelage.functional.returns import gae
from tutelage.stages.experience import credited, experience_of, rewards_of, rows_of, scaled, with_scores
from tutelage.types import Credit, Group


def failing() -> list:
    some = groups()
    some[0].samples[1].reward = None
    some[2].samples[0].finish = "length"
    return some


def test_rewards_stand_at_the_last_token_of_every_rewarded_sample() -> None:
    rows = rows_of(failing())
    of = experience_of(failing(), rows, None)
    assert of.valid_PG.tolist() == [[True, False, True], [True] * 3, [True] * 3]
    assert of.rewards_PG[of.valid_PG].tolist() == [1.0, 0.5, *[torch.tensor(0.3).item()] * 3, 0.0, 0.0, 2.0]
    assert of.truncated_PG.nonzero().tolist() == [[2, 0]]
    assert of.sequence_A.tolist() == [0] * 2 + [2] * 4 + [3] * 2 + [4] * 3 + [5] * 4 + [6] * 2 + [7] * 3 + [8] * 4
    assert (
        torch.zeros(9).index_add(0, of.sequence_A, of.rewards_A).tolist() == rewards_of(failing())[0].flatten().tolist()
    )
    ends = [1, 5, 7, 10, 14, 16, 19, 23]
    assert of.rewards_A.nonzero()[:, 0].tolist() == [at for at in ends if at not in (16, 19)]  # two earned 0


def test_scores_go_to_the_rows_they_are_of_however_these_were_packed() -> None:
    rows = rows_of(groups())
    batches = pack(rows, 12)
    assert len(batches) > 2
    scores = [{"behaviour": batch.tokens_N[batch.action_A].float()} for batch in batches]
    for row in with_scores(rows, batches, scores):
        assert row.fields["behaviour"] == [float(token) for token in row.tokens]


def test_credit_goes_to_its_tokens_and_rows_without_any_are_skipped() -> None:
    rows = rows_of(groups())
    of = experience_of(groups(), rows, None)
    numbers_A = torch.arange(27.0)
    done = credited(rows, Credit(numbers_A, 100 + numbers_A), DrGrpo())
    assert [x for row in done for x in row.fields["advantages"]] == numbers_A.tolist()
    assert [x for row in done for x in row.fields["returns"]] == (100 + numbers_A).tolist()
    centred = credited(rows, DrGrpo().credit(of), DrGrpo())
    assert [row.skipped for row in centred] == [False, False, True, True, True, True, False, False, False]
    assert not any(row.skipped for row in credited(rows, DrGrpo().credit(of), Ppo()))


def told() -> list[Group]:
    """Of the first group two answers are told of token by token, with and without something left over."""
    some = failing()
    some[0].samples[0].token_rewards = [0.75, 0.5]  # of a reward of 1
    some[0].samples[2].token_rewards = [0.0, 0.25, 0.0, 0.25]  # all of a reward of 0.5
    some[1].samples[0].tokens = []  # rewarded, with nothing to stand at
    return some


def test_tokens_earn_what_is_told_of_them_and_the_last_one_what_is_left() -> None:
    some = told()
    of = experience_of(some, rows_of(some), None)
    assert of.process_A is not None
    assert of.process_A[:6].tolist() == [0.75, 0.5, 0.0, 0.25, 0.0, 0.25]
    assert of.process_A[6:].eq(0).all()
    assert of.rewards_A[:6].tolist() == [0.75, 0.25, 0.0, 0.25, 0.0, 0.25]
    totals_B = torch.zeros(9).index_add(0, of.sequence_A, of.rewards_A)
    expected_B = (of.rewards_PG * of.valid_PG).flatten()
    expected_B[3] = 0.0  # the empty answer has no action
    torch.testing.assert_close(totals_B, expected_B)
    # GAE by its definition, for the first answer: delta is the token's own reward, and what comes after it discounted.
    values_A = torch.full_like(of.rewards_A, 0.1)
    found_A = gae(of.rewards_A, values_A, of.sequence_A, of.after_B, 0.9, 0.5)
    last = 0.25 - 0.1
    assert found_A[:2].tolist() == pytest.approx([0.75 + 0.9 * 0.1 - 0.1 + 0.45 * last, last])


def test_scaled_rewards_are_scaled_for_single_tokens_too() -> None:
    some = told()
    plain = experience_of(some, rows_of(some), None)
    less = scaled(plain)
    deviation = plain.rewards_PG[plain.valid_PG].std()
    assert plain.process_A is not None
    assert less.process_A is not None
    for before, after in ((plain.process_A, less.process_A), (plain.rewards_A, less.rewards_A)):
        torch.testing.assert_close(after, before / deviation)
    assert experience_of(groups(), rows_of(groups()), None).process_A is None
