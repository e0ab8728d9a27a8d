"""From groups to credited rows: whose number lands on which token."""

from __future__ import annotations

import torch

from tests.stages.test_skipping import groups
from tutelage.algorithms import DrGrpo, Ppo
from tutelage.data.packing import pack
from tutelage.stages.experience import credited, experience_of, rewards_of, rows_of, with_scores
from tutelage.types import Credit


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
