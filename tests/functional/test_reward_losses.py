"""Losses of reward models against hand values, closed forms and finite differences."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from tutelage.algorithms.reward_losses import BradleyTerry, Outcome, Regression, RewardLoss
from tutelage.functional.reward_losses import bradley_terry, pairs_within

GROUP = torch.tensor([0, 0, 1, 1, 1, 1, 2, 3])
JUDGED = torch.tensor([1.0, 0.0, 3.0, 1.0, 2.0, 1.0, 0.5, 1.0]).double()


def test_pairs_are_those_of_one_prompt_and_weigh_one_in_all() -> None:
    better, worse, share = pairs_within(GROUP, JUDGED)
    found = {(i, j): s for i, j, s in zip(better.tolist(), worse.tolist(), share.tolist(), strict=True)}
    # Of the four answers of prompt 1 two were judged alike: five pairs. A prompt with one answer has none.
    assert found == pytest.approx({(0, 1): 1.0, **dict.fromkeys([(2, 3), (2, 4), (2, 5), (4, 3), (4, 5)], 0.2)})
    none = pairs_within(torch.tensor([], dtype=torch.int64), torch.tensor([]))
    assert [len(part) for part in none] == [0, 0, 0]


def test_the_loss_of_ranked_answers_is_instructgpts() -> None:
    scores = torch.tensor([0.3, -0.2, 1.0, 0.4], dtype=torch.float64)
    loss = BradleyTerry().loss(scores, torch.tensor([1.0, 2.0, 4.0, 3.0]).double(), torch.zeros(4, dtype=torch.int64))
    order = scores[[0, 1, 3, 2]]  # from the worst to the best
    expected = -sum(math.log(1 / (1 + math.exp(w - b))) for w, b in combinations(order.tolist(), 2)) / 6
    assert loss.total.item() == pytest.approx(expected)
    assert loss.unit == "prompts"
    # One pair of six stands in the wrong order, so two answers have two of their three pairs right.
    assert loss.metrics["accuracy"].item() == pytest.approx(2 / 3 + 2 / 3 + 1 + 1)


def test_the_best_scores_are_the_log_odds_of_the_judgements() -> None:
    """Of two answers where the one wins with probability 0.8, scores that differ by log 4 have the least loss."""
    score = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([score], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        zero = torch.zeros(1, dtype=torch.float64)
        loss = (0.8 * bradley_terry(score[None], zero) + 0.2 * bradley_terry(zero, score[None])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert score.item() == pytest.approx(math.log(4.0), abs=1e-4)


def test_a_margin_and_a_centre_by_hand() -> None:
    scores, judged = torch.tensor([1.0, 0.5]).double(), torch.tensor([3.0, 1.0]).double()
    loss = BradleyTerry(margin=0.25, centre=0.01).loss(scores, judged, torch.zeros(2, dtype=torch.int64))
    assert loss.total.item() == pytest.approx(math.log1p(math.exp(-(0.5 - 0.5))) + 0.01 * 1.5**2)


def test_clamped_judgements_by_hand() -> None:
    """Won 90 % against 30 %: a probability of 0.8, clamped to 0.6; and the best difference is its log-odds."""
    scores, judged = torch.tensor([1.0, 0.5]).double(), torch.tensor([0.9, 0.3]).double()
    one = torch.zeros(2, dtype=torch.int64)
    p = 1 / (1 + math.exp(-0.5))
    soft = BradleyTerry(clamp=(0.1, 0.9)).loss(scores, judged, one).total.item()
    assert soft == pytest.approx(-(0.8 * math.log(p) + 0.2 * math.log(1 - p)))
    clamped = BradleyTerry(clamp=(0.4, 0.6)).loss(scores, judged, one).total.item()
    assert clamped == pytest.approx(-(0.6 * math.log(p) + 0.4 * math.log(1 - p)))
    best = torch.tensor([math.log(0.6 / 0.4), 0.0], dtype=torch.float64, requires_grad=True)
    BradleyTerry(clamp=(0.4, 0.6)).loss(best, judged, one).total.backward()
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-12
    for wrong in ({"clamp": (0.6, 0.9)}, {"clamp": (0.4, 0.6), "margin": 1.0}):
        with pytest.raises(ValueError, match="clamp: must be"):
            BradleyTerry(**wrong)


def test_outcomes_and_regression_by_hand() -> None:
    scores, judged = torch.tensor([2.0, -1.0, 0.5]).double(), torch.tensor([1.0, 0.0, 0.25]).double()
    groups = torch.arange(3)
    sigmoid = [1 / (1 + math.exp(-x)) for x in scores.tolist()]
    crossed = -sum(y * math.log(p) + (1 - y) * math.log(1 - p) for p, y in zip(sigmoid, judged.tolist(), strict=True))
    outcome = Outcome().loss(scores, judged, groups)
    assert (outcome.total.item(), outcome.unit) == (pytest.approx(crossed), "tokens")
    assert outcome.metrics["accuracy"].item() == 2.0
    assert Regression().loss(scores, judged, groups).total.item() == pytest.approx(1.0 + 1.0 + 0.0625)


@pytest.mark.parametrize(
    "kind", [BradleyTerry(margin=0.1, centre=0.01), BradleyTerry(clamp=(0.4, 0.6)), Outcome(), Regression()]
)
def test_gradients_are_those_of_finite_differences_and_finite_far_out(kind: RewardLoss) -> None:
    judged = JUDGED.clamp(max=1.0) if isinstance(kind, Outcome) else JUDGED
    scores = torch.linspace(-1.3, 1.7, len(GROUP), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kind.loss(x, judged, GROUP).total, scores)
    far = (1e4 * scores).detach().requires_grad_()
    loss = kind.loss(far, judged, GROUP).total
    loss.backward()
    assert loss.isfinite()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("kind", [BradleyTerry(), Outcome(), Regression()])
def test_a_higher_score_of_the_better_answer_is_a_lower_loss(kind: RewardLoss) -> None:
    scores, judged = torch.zeros(2, requires_grad=True), torch.tensor([1.0, 0.0])
    kind.loss(scores, judged, torch.zeros(2, dtype=torch.int64)).total.backward()
    assert scores.grad is not None
    assert scores.grad[0] < 0
    assert scores.grad[1] >= 0
