"""Losses of pairs and of single answers: by hand, by finite differences, at their optima, and where they are extreme.

Equal to TRL's: tests/peers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from tutelage.functional import preference_losses as losses
from tutelage.functional.preference_losses import Divergence, dpo

OfMargins = Callable[[Tensor], Tensor]
OfPairs = Callable[[Tensor, Tensor], Tensor]
OfAnswers = Callable[[Tensor, Tensor], Tensor]

OF_MARGINS: dict[str, OfMargins] = {
    "logistic": losses.logistic,
    "smoothed": partial(losses.logistic, label_smoothing=0.2),
    "robust": partial(losses.robust, flipped=0.1),
    "hinge": losses.hinge,
    "ipo": partial(losses.ipo, tau=0.1),
    "exo": partial(losses.exo, label_smoothing=1e-3),
    "discopop": partial(losses.discopop, temperature=0.05),
}
OF_PAIRS: dict[str, OfPairs] = {
    "dpop": partial(losses.dpop, weight=5.0),
    "nca": losses.nca,
    "apo_zero": losses.apo_zero,
    "apo_down": losses.apo_down,
    "sppo": lambda chosen_P, rejected_P: losses.sppo(chosen_P, rejected_P, torch.ones_like(chosen_P), beta=0.5),
    "aot": lambda chosen_P, rejected_P: losses.logistic(losses.quantile_gaps(chosen_P, rejected_P)),
}
OF_ANSWERS: dict[str, OfAnswers] = {
    "kto": losses.kto,
    "weighted kto": partial(losses.kto, desirable=1.3, undesirable=0.4),
    "bco": losses.bco,
}


def pairs(*values: list[float]) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def check(losses_P: Tensor, expected: list[float], of: list[Tensor], slopes: list[list[float]]) -> None:
    torch.testing.assert_close(losses_P, torch.tensor(expected, dtype=torch.float64))
    gradients = torch.autograd.grad(losses_P.sum(), of)
    for gradient, slope in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(gradient, torch.tensor(slope, dtype=torch.float64))


def test_dpo_by_hand() -> None:
    chosen_P, rejected_P, of_chosen_P, of_rejected_P = pairs([-1.0, -4.0], [-2.0, -3.0], [-1.5, -4.0], [-1.5, -3.0])
    loss_P = dpo(chosen_P, rejected_P, of_chosen_P, of_rejected_P, beta=0.5)
    # The margins are 0.5 * ((-1 + 1.5) - (-2 + 1.5)) = 0.5 and, where policy and reference agree, 0.
    expected = [math.log(1 + math.exp(-0.5)), math.log(2)]
    torch.testing.assert_close(loss_P, torch.tensor(expected, dtype=torch.float64))
    slope = torch.tensor([0.5 / (1 + math.exp(0.5)), 0.25], dtype=torch.float64)
    of = torch.autograd.grad(loss_P.sum(), (chosen_P, rejected_P))
    torch.testing.assert_close(of, (-slope, slope))


def test_beta_is_the_papers() -> None:
    of = pairs([-1.0], [-3.0], [-2.0], [-2.0])
    torch.testing.assert_close(dpo(*of), dpo(*of, beta=0.1))
    assert dpo(*of).item() == pytest.approx(math.log(1 + math.exp(-0.2)))


@pytest.mark.parametrize("beta", [0.1, 3.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_finite_differences_of_dpo(beta: float, label_smoothing: float) -> None:
    of = pairs([-1.2, -0.5, -30.0], [-0.9, -7.0, -2.0], [-1.0, -0.6, -28.0], [-1.1, -6.0, -2.5])
    assert torch.autograd.gradcheck(lambda *x: dpo(*x, beta=beta, label_smoothing=label_smoothing), of)


@pytest.mark.parametrize(("gap", "loss", "slope"), [(1e4, 0.0, 0.0), (-1e4, 1e3, -0.1)])
def test_extreme_margins_of_dpo(gap: float, loss: float, slope: float) -> None:
    chosen_P, zero_P = torch.full((1,), gap, requires_grad=True), torch.zeros(1)
    loss_P = dpo(chosen_P, zero_P, zero_P, zero_P)
    assert loss_P.item() == pytest.approx(loss)
    assert torch.autograd.grad(loss_P.sum(), chosen_P)[0].item() == pytest.approx(slope)


def test_pairs_must_align() -> None:
    one_P, two_P = torch.zeros(1), torch.zeros(2)
    with pytest.raises(AssertionError):
        dpo(two_P, one_P, two_P, two_P)
    for loss in OF_PAIRS.values():
        with pytest.raises(AssertionError):
            loss(two_P, one_P)


# ---- By hand ----


@pytest.mark.parametrize(
    ("name", "expected", "slopes"),
    [
        ("logistic", [math.log(2), math.log(1.5)], [-0.5, -1 / 3]),
        ("smoothed", [math.log(2), 0.8 * math.log(1.5) + 0.2 * math.log(3)], [-0.3, 0.2 - 1 / 3]),
        ("robust", [math.log(2), (0.9 * math.log(1.5) - 0.1 * math.log(3)) / 0.8], [-0.5 - 0.125, -1 / 3 - 0.125]),
        ("hinge", [1.0, 1 - math.log(2)], [-1.0, -1.0]),
        ("ipo", [25.0, 100 * (math.log(2) - 0.5) ** 2], [-100.0, 200 * (math.log(2) - 0.5)]),
        ("discopop", [(math.log(2) + 1) / 2, None], [None, None]),
    ],
)
def test_margins_by_hand(name: str, expected: list[float | None], slopes: list[float | None]) -> None:
    (margins_P,) = pairs([0.0, math.log(2)])  # sigmoid: 1/2 and 2/3
    losses_P = OF_MARGINS[name](margins_P)
    gradient_P = torch.autograd.grad(losses_P.sum(), margins_P)[0]
    for ours, theirs in zip((*losses_P.tolist(), *gradient_P.tolist()), (*expected, *slopes), strict=True):
        assert theirs is None or ours == pytest.approx(theirs)


def test_exo_by_hand() -> None:
    (margins_P,) = pairs([math.log(3)])  # sigmoid: 3/4
    losses_P = losses.exo(margins_P, label_smoothing=0.5)
    check(losses_P, [0.75 * math.log(1.5) + 0.25 * math.log(0.5)], [margins_P], [[0.75 * 0.25 * math.log(3)]])


def test_discopop_by_hand() -> None:
    (margins_P,) = pairs([math.log(2)])
    weight = 4 / 5  # sigmoid(2 log 2)
    slope = (1 - weight) * (-1 / 3) - weight / 2 + 2 * weight * (1 - weight) * (0.5 - math.log(1.5))
    check(losses.discopop(margins_P, 0.5), [(1 - weight) * math.log(1.5) + weight / 2], [margins_P], [[slope]])


def test_discopop_is_not_convex() -> None:
    """The paper's own stationary points, -2.3714 and 1.44012 in units of the temperature."""
    (margins_P,) = pairs([-2.3714 * 0.05, 0.0, 1.44012 * 0.05])
    gradient_P = torch.autograd.grad(losses.discopop(margins_P, 0.05).sum(), margins_P)[0]
    assert gradient_P[0].item() == pytest.approx(0.0, abs=1e-3)
    assert gradient_P[1].item() == pytest.approx(-0.75 + 5 * (1 - math.log(2)))
    assert gradient_P[2].item() == pytest.approx(0.0, abs=1e-3)


def test_dpop_by_hand() -> None:
    of = pairs([1.0, -1.0], [0.5, -2.0])
    losses_P = losses.dpop(*of, weight=3.0)  # the margins less what is below the reference: 0.5, and 1 - 3 * 1
    down = [sigmoid(-0.5), sigmoid(2.0)]
    expected = [math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(2.0))]
    check(losses_P, expected, of, [[-down[0], -4 * down[1]], down])


def test_nca_by_hand() -> None:
    of = pairs([math.log(2)], [0.0])
    losses_P = losses.nca(*of)  # at the chosen answer's floor
    check(losses_P, [math.log(1.5) + 0.5 * math.log(3) + 0.5 * math.log(2)], of, [[0.0], [0.25]])


def test_apo_by_hand() -> None:
    of = pairs([math.log(2)], [-math.log(2)])
    check(losses.apo_zero(*of), [1 / 3 + 1 / 3], of, [[-2 / 9], [2 / 9]])
    check(losses.apo_down(*of), [2 / 3 + 1 / 5], of, [[2 / 9 - 4 / 25], [4 / 25]])


def test_sppo_by_hand() -> None:
    of = pairs([1.0], [-1.0])
    losses_P = losses.sppo(*of, torch.tensor([0.75], dtype=torch.float64), beta=0.5)
    check(losses_P, [(0.75 / 0.5) ** 2 * 2], of, [[2 * 0.75 / 0.25], [-2 * 0.75 / 0.25]])


def test_quantiles_by_hand() -> None:
    upper_P, lower_P = pairs([3.0, -1.0, 2.0], [0.0, 5.0, 1.0])
    gaps_P = losses.quantile_gaps(upper_P, lower_P)
    check(gaps_P, [-1.0, 1.0, -2.0], [upper_P, lower_P], [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    # The gradient goes to the answer of that rank: the largest of both is the third gap.
    (of_upper_P, of_lower_P) = torch.autograd.grad(losses.quantile_gaps(upper_P, lower_P)[2], (upper_P, lower_P))
    assert of_upper_P.tolist() == [1.0, 0.0, 0.0]
    assert of_lower_P.tolist() == [0.0, -1.0, 0.0]


def test_single_answers_by_hand() -> None:
    (above_B,) = pairs([math.log(2), math.log(2)])
    good_B = torch.tensor([True, False])
    expected, slopes = [1.5 * 1 / 3, 0.6 * 2 / 3], [-1.5 * 2 / 9, 0.6 * 2 / 9]
    check(losses.kto(above_B, good_B, 1.5, 0.6), expected, [above_B], [slopes])
    check(losses.bco(above_B, good_B), [math.log(1.5), math.log(3)], [above_B], [[-1 / 3, 2 / 3]])


def test_log_odds_by_hand() -> None:
    (means_B,) = pairs([math.log(0.5), math.log(0.8), -50.0])
    odds_B = losses.log_odds(means_B)  # its slope is 1 / (1 - p)
    check(odds_B, [0.0, math.log(4), -50.0], [means_B], [[2.0, 5.0, 1.0]])
    certain_B = torch.zeros(1, requires_grad=True)
    odds_B = losses.log_odds(certain_B)
    assert odds_B.item() == pytest.approx(math.log(1e6), rel=1e-3)
    assert torch.autograd.grad(odds_B.sum(), certain_B)[0].item() == 0.0


def test_batch_beta_by_hand() -> None:
    gaps_P = torch.tensor([1.0, 3.0], requires_grad=True)
    mean_gap = torch.tensor(0.5)
    assert losses.batch_beta(gaps_P, mean_gap, beta=0.1, scale=0.6).item() == pytest.approx(0.1 * (1 + 0.6 * 1.5))
    assert not losses.batch_beta(gaps_P, mean_gap, 0.1, 0.6).requires_grad
    assert losses.batch_beta(-100 * gaps_P, mean_gap, 0.1, 0.6).item() == pytest.approx(1e-3)


# ---- Divergences ----

GENERATORS: dict[Divergence, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda u: u * u.log(),
    "forward_kl": lambda u: -u.log(),
    "js": lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
    "alpha": lambda u: (u**0.7 - 0.7 * u - 0.3) / (0.3 * -0.7),
}


@pytest.mark.parametrize("divergence", list(GENERATORS))
def test_scores_are_the_generators_slopes(divergence: Divergence) -> None:
    ratio = torch.tensor([0.2, 0.7, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(GENERATORS[divergence](ratio).sum(), ratio)
    scores = losses.divergence_score(ratio.detach().log(), divergence, alpha=0.3)
    torch.testing.assert_close(scores - scores[2], slope - slope[2])  # up to a constant, which no pair sees
    x = ratio.detach().log().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.divergence_score(x, divergence, 0.3), x)


def test_alpha_lies_between_the_kls() -> None:
    x = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)
    for alpha, limit in ((1e-9, "reverse_kl"), (1.0, "forward_kl")):
        scores = losses.divergence_score(x, "alpha", alpha)
        torch.testing.assert_close(scores, losses.divergence_score(x, limit, 0.5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("divergence", list(GENERATORS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_ratios_have_finite_scores(divergence: Divergence, dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
    scores = losses.divergence_score(x, divergence, 0.5)
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert scores.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0] > 0  # a fallen answer is still lifted


# ---- All of them ----

VALUES = [-3.0, -1.2, -0.3, 0.4, 0.9, 2.5]
OTHERS = [0.7, -2.0, 0.6, -0.1, 1.7, 1.1]
GOOD_B = torch.tensor([True, False, False, True, True, False])


def all_at(first: Tensor, second: Tensor, good_B: Tensor) -> dict[str, Tensor]:
    of_margins = {name: loss(first) for name, loss in OF_MARGINS.items()}
    of_pairs = {name: loss(first, second) for name, loss in OF_PAIRS.items()}
    return of_margins | of_pairs | {name: loss(first, good_B) for name, loss in OF_ANSWERS.items()}


NAMES = [*OF_MARGINS, *OF_PAIRS, *OF_ANSWERS]


@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(name: str) -> None:
    first, second = pairs(VALUES, OTHERS)
    assert torch.autograd.gradcheck(lambda x, y: all_at(x, y, GOOD_B)[name], (first, second))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(name: str, dtype: torch.dtype) -> None:
    first = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    second = torch.tensor([-1e4, 1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    values = all_at(first, second, torch.tensor([True, False, False, True]))[name]
    gradients = torch.autograd.grad(values.sum(), (first, second), allow_unused=True)
    assert values.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("name", NAMES)
def test_no_answers_have_no_loss(name: str) -> None:
    nothing = torch.zeros(0, requires_grad=True)
    values = all_at(nothing, nothing, torch.zeros(0, dtype=torch.bool))[name]
    assert values.shape == (0,)
    assert values.sum().item() == 0.0
    assert torch.autograd.grad(values.sum(), nothing)[0].shape == (0,)


@pytest.mark.parametrize("name", [*OF_MARGINS, *OF_PAIRS])
def test_a_better_answer_is_raised_and_a_worse_one_lowered(name: str) -> None:
    for at in (-0.4, 0.1):  # below every optimum
        first, second = pairs([at], [0.05])
        values = all_at(first, second, GOOD_B[:1])[name]
        of_first, of_second = torch.autograd.grad(values.sum(), (first, second), allow_unused=True)
        if name != "apo_down":  # which lowers both, the worse one further
            assert of_first.item() < 0
        if name in OF_PAIRS:
            assert of_second.item() > max(0.0, of_first.item())


@pytest.mark.parametrize("name", list(OF_ANSWERS))
def test_good_answers_are_raised_and_bad_ones_lowered(name: str) -> None:
    (above_B,) = pairs(VALUES)
    gradient_B = torch.autograd.grad(OF_ANSWERS[name](above_B, GOOD_B).sum(), above_B)[0]
    assert ((gradient_B < 0) == GOOD_B).all()


def test_where_losses_coincide() -> None:
    chosen_P, rejected_P = pairs(VALUES, OTHERS)
    margins_P = (chosen_P - rejected_P).detach()
    torch.testing.assert_close(losses.logistic(margins_P, 1e-12), losses.logistic(margins_P))
    torch.testing.assert_close(losses.robust(margins_P, 1e-12), losses.logistic(margins_P))
    above_P = chosen_P.abs()  # no answer below the reference: no penalty
    torch.testing.assert_close(losses.dpop(above_P, rejected_P, 50.0), losses.logistic(above_P - rejected_P))
    one = losses.quantile_gaps(chosen_P[:1], rejected_P[:1])
    torch.testing.assert_close(one, (chosen_P - rejected_P)[:1])
    # APO-zero of a pair is KTO of its answers, with a reference point of 0.
    both_B, good_B = torch.cat((chosen_P, rejected_P)), torch.arange(12) < 6
    torch.testing.assert_close(losses.apo_zero(chosen_P, rejected_P), sum(losses.kto(both_B, good_B).split(6)))


def test_robust_is_dpo_in_expectation_over_flipped_labels() -> None:
    (margins_P,) = pairs(VALUES)
    flipped = 0.2
    expected_P = (1 - flipped) * losses.robust(margins_P, flipped) + flipped * losses.robust(-margins_P, flipped)
    torch.testing.assert_close(expected_P, losses.logistic(margins_P))
    slopes = [torch.autograd.grad(x.sum(), margins_P)[0] for x in (expected_P, losses.logistic(margins_P))]
    torch.testing.assert_close(*slopes)


def test_the_optima_of_a_single_pair() -> None:
    wanted = {
        "smoothed": math.log(0.8 / 0.2),  # sigmoid(h) = 1 - e
        "exo": math.log(0.999 / 0.001),
        "ipo": 0.5,  # h / tau = 1 / (2 tau)
    }
    for name, margin in wanted.items():
        (margins_P,) = pairs([margin])
        gradient = torch.autograd.grad(OF_MARGINS[name](margins_P).sum(), margins_P)[0]
        assert gradient.item() == pytest.approx(0.0, abs=1e-12)
    (margins_P,) = pairs([wanted["exo"]])
    assert losses.exo(margins_P, 1e-3).item() == pytest.approx(0.0, abs=1e-12)
