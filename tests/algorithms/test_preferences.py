"""The family as recipes: what each reads, its gradient, and the policy at which gradient descent on it ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.functional.oracle import VOCABULARY, World, random_logits
from tutelage.algorithms import (
    PREFERENCE_LOSSES,
    Answers,
    Aot,
    ApoZero,
    Bco,
    BetaDpo,
    Cpo,
    Dpo,
    Dpop,
    Exo,
    Hinge,
    Ipo,
    Kto,
    Nca,
    Orpo,
    Outcome,
    PreferenceLoss,
    RobustDpo,
    SimPo,
    Sppo,
    build_preference_loss,
)
from tutelage.errors import ConfigError
from tutelage.functional import preference_losses

LOGPROBS = [-4.0, -6.5, -3.2, -8.1, -5.0, -2.4]
REFERENCE = [-4.6, -6.1, -3.9, -7.5, -5.7, -2.3]
# Answers 0, 1, 2 are ranked: all their pairs. 3 and 4 are another prompt's. 5 stands in no pair.
BETTER, WORSE = [0, 0, 1, 4], [1, 2, 2, 3]
DIALS = {"shift": 0.01, "steps": 3.0, "mean_gap": 0.4}

EVERY = [pytest.param(kind(), id=name) for name, kind in PREFERENCE_LOSSES.items()]
OPTIONS = [
    Dpo(label_smoothing=0.1, sft=0.5),
    Dpo(divergence="forward_kl"),
    Dpo(divergence="js"),
    Dpo(divergence="alpha", alpha=0.3, length_normalised=True),
    Ipo(length_normalised=False),
    Hinge(reference_free=True, sft=0.2),
    Sppo(labels="soft"),
    Aot(dominance="answers"),
    Kto(reference_point="zero", sft=0.3),
]
ALL = [*EVERY, *[pytest.param(loss, id=str(loss)) for loss in OPTIONS]]


def answers_of(logprobs_B: Tensor, **changes: Any) -> Answers:
    dtype = logprobs_B.dtype
    fields: dict[str, Any] = {
        "lengths_B": torch.tensor([3, 5, 2, 6, 4, 1]),
        "reference_B": torch.tensor(REFERENCE, dtype=dtype),
        "better_P": torch.tensor(BETTER),
        "worse_P": torch.tensor(WORSE),
        "margins_P": torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=dtype),
        "good_B": torch.tensor([True, True, False, False, True, False]),
        "mismatched_B": torch.tensor([0.3, -0.2, 0.5, 0.1, 0.2, 0.4], dtype=dtype),
        "dials": DIALS,
    }
    return Answers(logprobs_B, **(fields | changes))


def leaf(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(LOGPROBS, dtype=dtype, requires_grad=True)


def slopes(loss: PreferenceLoss, **changes: Any) -> Tensor:
    logprobs_B = leaf()
    return torch.autograd.grad(loss.loss(answers_of(logprobs_B, **changes)).losses.sum(), logprobs_B)[0]


def values(loss: PreferenceLoss, **changes: Any) -> Tensor:
    return loss.loss(answers_of(leaf().detach(), **changes)).losses


def same(one: PreferenceLoss, other: PreferenceLoss, **changes: Any) -> None:
    torch.testing.assert_close(values(one, **changes), values(other, **changes))
    torch.testing.assert_close(slopes(one, **changes), slopes(other, **changes))


# ---- Each of them ----


# BetaDpo and Bco take a mean of the step for a constant, which finite differences do not: they have their own tests.
@pytest.mark.parametrize("loss", [case for case in ALL if not isinstance(case.values[0], BetaDpo | Bco)])
def test_finite_differences(loss: PreferenceLoss) -> None:
    assert torch.autograd.gradcheck(lambda x: loss.loss(answers_of(x)).losses, leaf())


@pytest.mark.parametrize("loss", ALL)
def test_reads_no_more_than_it_says(loss: PreferenceLoss) -> None:
    unread: dict[str, Any] = {"better_P": None, "worse_P": None} if not loss.paired else {"good_B": None}
    if not loss.needs_reference:
        unread["reference_B"] = None
    if not loss.needs_mismatched:
        unread["mismatched_B"] = None
    torch.testing.assert_close(values(loss, **unread), values(loss))
    torch.testing.assert_close(slopes(loss, **unread), slopes(loss))


@pytest.mark.parametrize("loss", ALL)
def test_what_it_needs_is_missed(loss: PreferenceLoss) -> None:
    needed = {"better_P" if loss.paired else "good_B": True}
    needed |= {"reference_B": loss.needs_reference, "mismatched_B": loss.needs_mismatched}
    for name in (name for name, needs in needed.items() if needs):
        with pytest.raises(ValueError, match=name):
            values(loss, **{name: None})


@pytest.mark.parametrize("loss", ALL)
def test_coupled_says_whether_other_pairs_are_read(loss: PreferenceLoss) -> None:
    if not loss.paired:
        assert loss.coupled
        return
    whole = values(loss)
    answers = answers_of(leaf())
    fields = {"better_P": answers.better_P, "worse_P": answers.worse_P, "margins_P": answers.margins_P}
    singles = [{name: of_P[p : p + 1] for name, of_P in fields.items()} for p in range(len(whole))]
    alone = torch.cat([values(loss, **single) for single in singles])
    assert torch.allclose(whole, alone, rtol=1e-9) != loss.coupled


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_answers_are_finite(loss: PreferenceLoss, dtype: torch.dtype) -> None:
    logprobs_B = torch.tensor([-1e4, -1e-7, 0.0, -1e4, -1e-3, -1e4], dtype=dtype, requires_grad=True)
    reference_B = torch.tensor([-1.0, -1e4, -1e4, 0.0, -1e4, -1e4], dtype=dtype)
    losses = loss.loss(answers_of(logprobs_B, reference_B=reference_B)).losses
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs_B)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", ALL)
def test_an_empty_batch_has_neither_loss_nor_gradient(loss: PreferenceLoss) -> None:
    nothing, nowhere = torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    empty: dict[str, Any] = {"lengths_B": nowhere, "reference_B": nothing.detach(), "mismatched_B": nothing.detach()}
    empty |= {"better_P": nowhere, "worse_P": nowhere, "margins_P": nothing.detach(), "good_B": nowhere.bool()}
    terms = loss.loss(answers_of(nothing, **empty))
    assert terms.losses.shape == (0,)
    assert torch.autograd.grad(terms.losses.sum(), nothing)[0].shape == (0,)
    assert all(metric.item() == 0.0 for metric in terms.metrics.values())


@pytest.mark.parametrize("loss", EVERY)
def test_the_better_answer_is_raised(loss: PreferenceLoss) -> None:
    one: dict[str, Any] = {"better_P": torch.tensor([0]), "worse_P": torch.tensor([1]), "margins_P": torch.ones(1)}
    if loss.type == "discopop":  # beside h = 0 its slope is the other way round
        one["reference_B"] = torch.tensor([-9.0, *REFERENCE[1:]], dtype=torch.float64)
    gradient_B = slopes(loss, **one)
    if loss.type == "apo_down":  # both are lowered, the worse one further
        assert 0 < gradient_B[0] < gradient_B[1]
    elif loss.paired:
        assert gradient_B[0] < 0 < gradient_B[1]
        assert gradient_B[2:].count_nonzero() == 0
    else:
        assert ((gradient_B < 0) == answers_of(leaf()).good_B).all()


@pytest.mark.parametrize("loss", EVERY)
def test_the_supervised_term_is_each_good_answers_mean(loss: PreferenceLoss) -> None:
    plain, joined = loss.model_copy(update={"sft": 0.0}), loss.model_copy(update={"sft": 0.7})
    answers = answers_of(leaf().detach())
    nll_B = -answers.logprobs_B / answers.lengths_B
    expected = nll_B[answers.better_P] if loss.paired else torch.where(answers.good_B, nll_B, 0.0)
    torch.testing.assert_close(values(joined) - values(plain), 0.7 * expected)
    times_B = torch.bincount(answers.better_P, minlength=6) if loss.paired else answers.good_B
    torch.testing.assert_close(slopes(joined) - slopes(plain), -0.7 * times_B.double() / answers.lengths_B)


# ---- Metrics and dials ----


def test_metrics_of_pairs_are_sums() -> None:
    metrics = Dpo().loss(answers_of(leaf())).metrics
    rewards_B = 0.1 * (torch.tensor(LOGPROBS) - torch.tensor(REFERENCE))
    chosen_P, rejected_P = rewards_B[BETTER], rewards_B[WORSE]
    expected = {"chosen_reward": chosen_P, "rejected_reward": rejected_P, "margin": chosen_P - rejected_P}
    expected["accuracy"] = (chosen_P > rejected_P).float()
    assert metrics.keys() == expected.keys()
    for name, value_P in expected.items():
        assert metrics[name].item() == pytest.approx(value_P.sum().item(), abs=1e-6)
        assert not metrics[name].requires_grad


def test_metrics_of_single_answers_become_means() -> None:
    answers = answers_of(leaf())
    metrics = Kto().loss(answers).metrics
    rewards_B = (0.1 * answers.log_ratio_B).detach()
    good, bad = rewards_B[answers.good_B].mean().item(), rewards_B[~answers.good_B].mean().item()
    point = 0.1 * 1.3 / 6
    right = ((rewards_B > point) == answers.good_B).float().mean().item()
    expected = {"chosen_reward": good, "rejected_reward": bad, "margin": good - bad, "baseline": point}
    for name, value in (expected | {"accuracy": right}).items():
        assert metrics[name].item() / 6 == pytest.approx(value, abs=1e-6)
    only_good = Kto().loss(answers_of(leaf(), good_B=torch.ones(6, dtype=torch.bool))).metrics
    assert only_good.keys() == {"accuracy", "baseline", "chosen_reward"}


def test_beta_dpo_is_dpo_with_the_steps_beta() -> None:
    gaps_P = answers_of(leaf().detach()).gaps(torch.tensor(LOGPROBS) - torch.tensor(REFERENCE))
    gap = gaps_P.mean().item()
    usual = 0.9 * 0.4 + 0.1 * gap
    beta = 0.1 * (1 + 0.6 * (gap - usual))
    same(BetaDpo(), Dpo(beta=beta))
    metrics = BetaDpo().loss(answers_of(leaf())).metrics
    assert metrics["mean_gap"].item() / 4 == pytest.approx(usual)
    assert BetaDpo().turned(BetaDpo().dials, {"mean_gap": usual}) == {"mean_gap": usual}
    assert BetaDpo().turned({"mean_gap": 0.4}, {}) == {"mean_gap": 0.4}


def test_bco_shifts_by_the_mean_reward_of_all_steps() -> None:
    loss, dials, means = Bco(beta=0.5), dict(Bco().dials), list[float]()
    for step in range(3):
        logprobs_B = leaf().detach() + 0.3 * step
        logprobs_B.requires_grad_()
        answers = answers_of(logprobs_B, dials=dials)
        rewards_B = 0.5 * answers.log_ratio_B
        means.append(rewards_B.mean().item())
        shift = sum(means) / len(means)
        terms = loss.loss(answers)
        expected_B = preference_losses.bco(rewards_B - shift, answers.good_B)
        torch.testing.assert_close(terms.losses, expected_B)
        gradients = [torch.autograd.grad(x.sum(), logprobs_B)[0] for x in (terms.losses, expected_B)]
        torch.testing.assert_close(*gradients)
        dials = dict(loss.turned(dials, {"baseline": terms.metrics["baseline"].item() / 6}))
        assert dials == {"shift": pytest.approx(shift), "steps": step + 1.0}
    assert loss.turned(dials, {}) == dials


def test_only_two_have_dials() -> None:
    with_dials = {name for name, kind in PREFERENCE_LOSSES.items() if kind().dials}
    assert with_dials == {"bco", "beta_dpo"}
    assert Dpo().turned({}, {"margin": 1.0}) == {}


def test_ktos_reference_point_is_at_least_zero() -> None:
    below = torch.full((6,), -0.4, dtype=torch.float64)
    same(Kto(), Kto(reference_point="zero"), mismatched_B=below)
    rewards_B = (0.1 * answers_of(leaf()).log_ratio_B).detach()
    above_B = rewards_B - 0.1 * 0.3
    expected = preference_losses.kto(above_B, answers_of(leaf()).good_B, 1.2, 0.7)
    point = torch.full((6,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(values(Kto(desirable=1.2, undesirable=0.7), mismatched_B=point), expected)


# ---- Where they coincide ----


def test_where_recipes_coincide() -> None:
    ones = torch.ones(6, dtype=torch.int64)
    same(Dpo(length_normalised=True), Dpo(), lengths_B=ones)
    same(Ipo(), Ipo(length_normalised=False), lengths_B=ones)
    same(SimPo(beta=0.1, margin=0.0), Cpo(sft=0.0), lengths_B=ones)
    same(Cpo(sft=0.0), Dpo(), reference_B=torch.zeros(6, dtype=torch.float64))
    same(Hinge(reference_free=True), Hinge(), reference_B=torch.zeros(6, dtype=torch.float64))
    same(Dpo(divergence="alpha", alpha=1e-9), Dpo())
    same(RobustDpo(flipped=1e-12, beta=0.1), Dpo())
    same(Sppo(labels="soft"), Sppo(), margins_P=torch.full((4,), 100.0, dtype=torch.float64))
    one = {"better_P": torch.tensor([0]), "worse_P": torch.tensor([1])}
    for dominance in ("margins", "answers"):
        same(Aot(dominance=dominance), Dpo(), **one)
    torch.testing.assert_close(slopes(Dpop(beta=0.1), **one), slopes(Dpo(), **one))  # 0 is above its reference


def test_aot_by_hand() -> None:
    gaps = torch.tensor([LOGPROBS[b] - LOGPROBS[w] for b, w in zip(BETTER, WORSE, strict=True)]).sort().values
    anchors = torch.tensor([REFERENCE[b] - REFERENCE[w] for b, w in zip(BETTER, WORSE, strict=True)]).sort().values
    expected = torch.nn.functional.softplus(-0.1 * (gaps - anchors)).double()
    torch.testing.assert_close(values(Aot()), expected, rtol=1e-6, atol=1e-6)


def test_orpo_by_hand() -> None:
    better, worse = LOGPROBS[0] / 3, LOGPROBS[1] / 5  # mean log-probabilities of the first pair
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (better, worse)]
    expected = -better + 0.1 * math.log(1 + odds[1] / odds[0])
    assert values(Orpo())[0].item() == pytest.approx(expected)


# ---- Where gradient descent ends: a bandit with three arms, all ordered pairs, weighted by their probability ----

REWARDS = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64)
ANCHOR = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
ARMS = list(itertools.permutations(range(3), 2))
WINS = torch.tensor([torch.sigmoid(REWARDS[i] - REWARDS[j]) for i, j in ARMS], dtype=torch.float64)
MEAN_WINS = torch.stack([WINS[[i for i, (arm, _) in enumerate(ARMS) if arm == a]].mean() for a in range(3)])


def minimised(objective: Callable[[Tensor], Tensor]) -> Tensor:
    at = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [at], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(at)
        value.backward()
        return value

    optimizer.step(closure)
    return at.detach()


def arms(logprobs_B: Tensor) -> Answers:
    return Answers(
        logprobs_B,
        torch.ones(3, dtype=torch.int64),
        ANCHOR,
        torch.tensor([i for i, _ in ARMS]),
        torch.tensor([j for _, j in ARMS]),
    )


def policy_of(loss: PreferenceLoss) -> Tensor:
    """The policy, normalised, that minimises the expected loss of a pair."""
    return minimised(lambda x: (WINS * loss.loss(arms(x.log_softmax(0))).losses).sum()).softmax(0)


def free_policy_of(loss: PreferenceLoss) -> Tensor:
    """The same, not normalised: log ratios for losses that are of the answers' absolute probabilities."""
    return minimised(lambda x: (WINS * loss.loss(arms(ANCHOR + x)).losses).sum())


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_dpo_ends_at_the_closed_form(beta: float) -> None:
    expected = (ANCHOR + REWARDS / beta).softmax(0)
    torch.testing.assert_close(policy_of(Dpo(beta=beta)), expected, rtol=1e-6, atol=1e-6)


def test_cpo_ends_at_the_closed_form_of_a_uniform_reference() -> None:
    torch.testing.assert_close(policy_of(Cpo(beta=0.5, sft=0.0)), (REWARDS / 0.5).softmax(0), rtol=1e-6, atol=1e-6)


def test_ipo_ends_at_the_closed_form() -> None:
    """Reference * exp(probability of beating the uniform policy / tau)."""
    wins_uniform = (2 * MEAN_WINS + 0.5) / 3  # two other arms, and itself
    expected = (ANCHOR + wins_uniform / 0.4).softmax(0)
    torch.testing.assert_close(policy_of(Ipo(beta=0.4)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("divergence", "slope"),
    [
        ("forward_kl", lambda u: -1 / u),
        ("js", lambda u: (2 * u / (1 + u)).log()),
        ("alpha", lambda u: (1 - u**-0.3) / 0.3),
    ],
)
def test_f_dpo_ends_where_the_regularised_reward_is_largest(divergence: Any, slope: Callable[[Tensor], Tensor]) -> None:
    """There beta f'(policy / reference) is the reward, up to a constant."""
    loss = Dpo(beta=2.0, divergence=divergence, **({"alpha": 0.3} if divergence == "alpha" else {}))
    rewards = 2.0 * slope(policy_of(loss) / ANCHOR.exp())
    torch.testing.assert_close(rewards - rewards[0], REWARDS - REWARDS[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", [Exo(beta=1.0, label_smoothing=0.2), Dpo(beta=1.0, label_smoothing=0.2)])
def test_smoothed_labels_of_one_pair_are_met(loss: PreferenceLoss) -> None:
    """sigmoid(h) ends at 1 - e, by either direction of the KL."""
    one = {"better_P": torch.tensor([0]), "worse_P": torch.tensor([1])}
    fields: dict[str, Any] = {"lengths_B": torch.ones(3, dtype=torch.int64), "reference_B": ANCHOR}
    ends = minimised(lambda x: loss.loss(Answers(ANCHOR + x, **fields, **one)).losses.sum())
    assert torch.sigmoid(ends[0] - ends[1]).item() == pytest.approx(0.8, abs=1e-6)


def test_nca_sppo_and_apo_end_at_absolute_probabilities() -> None:
    torch.testing.assert_close(free_policy_of(Nca(beta=0.5)), (2 * MEAN_WINS).log() / 0.5, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(free_policy_of(Sppo(beta=0.5)), (MEAN_WINS - 0.5) / 0.5, rtol=1e-6, atol=1e-6)
    apo = free_policy_of(ApoZero(beta=0.5))  # without a bound: up where an arm wins more than half, else down
    assert ((apo > 5) == (MEAN_WINS > 0.5)).all()


def judged(x: Tensor, loss: PreferenceLoss, good: Tensor) -> Tensor:
    """Expected loss of single answers, each good with its probability."""
    both = torch.arange(3).repeat(2)
    answers = Answers(
        (ANCHOR + x)[both],
        torch.ones(6, dtype=torch.int64),
        ANCHOR[both],
        good_B=torch.arange(6) < 3,
        mismatched_B=torch.zeros(3, dtype=torch.float64),
        dials={"shift": 0.2, "steps": 1e12},
    )
    return (torch.cat((good, 1 - good)) * loss.loss(answers).losses).sum()


def test_bco_ends_at_the_judges_log_odds() -> None:
    good = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    ends = minimised(lambda x: judged(x, Bco(beta=0.5), good))
    torch.testing.assert_close(ends, (good.logit() + 0.2) / 0.5, rtol=1e-5, atol=1e-5)


def test_the_cross_entropys_reward_ends_at_the_judges_log_odds() -> None:
    """And BCO without a shift is the same loss."""
    good = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    ends = minimised(lambda x: judged(x, Outcome(beta=0.5), good))
    torch.testing.assert_close(ends, good.logit() / 0.5, rtol=1e-5, atol=1e-5)
    same(Outcome(beta=0.5), Bco(beta=0.5), dials={"shift": -0.5 * mean_ratio() / 3.0, "steps": 3.0})


def mean_ratio() -> float:
    return sum(x - y for x, y in zip(LOGPROBS, REFERENCE, strict=True)) / len(LOGPROBS)


def test_the_reward_of_a_beginning_is_the_soft_mean_over_how_the_reference_goes_on() -> None:
    """2412.01981, proposition 3.1: beta log E[exp(r / beta)] over the reference's continuations, by enumeration."""
    world, beta = World(ends=True), 0.3
    tables = [random_logits(seed).log_softmax(-1) for seed in (1, 2)]
    policy_S, reference_S = (world.logprobs_S(table) for table in tables)
    rewards_S = beta * (policy_S - reference_S)
    for first in range(VOCABULARY):
        going_on = torch.tensor([sequence[0] == first for sequence in world.sequences])
        weights_S = (reference_S[going_on] - tables[1][0, first]).exp()  # given the first token
        expected = beta * (weights_S * (rewards_S[going_on] / beta).exp()).sum().log()
        own = beta * (tables[0][0, first] - tables[1][0, first])  # what `implicit` gives the first token
        torch.testing.assert_close(own, expected)


def test_kto_follows_the_majority() -> None:
    """Its optimum has no bound: an answer that most find good goes up, else down."""
    good = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    ends = minimised(lambda x: judged(x, Kto(beta=0.5), good))
    assert (ends[0] < -5, ends[1] > 5, ends[2] > 5) == (True, True, True)


# ---- Recipes ----


def test_every_kind_is_built_by_its_name_and_has_its_paper() -> None:
    assert len(PREFERENCE_LOSSES) == 19
    papers = (Path(__file__).parents[2] / "PAPERS.md").read_text(encoding="utf-8")
    for name, kind in PREFERENCE_LOSSES.items():
        assert kind().type == name
        assert f"(`{name}`)" in papers, name
        built = build_preference_loss({"type": name}, "stage[0].loss")
        assert built == kind()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "dpo", "alpha": 0.3}, "alpha: 'reverse_kl' does not read it"),
        ({"type": "dpo", "divergence": "alpha", "alpha": 1.0}, "less than 1"),
        ({"type": "dpo", "label_smoothing": 0.5}, "less than 0.5"),
        ({"type": "dpo", "bta": 0.5}, "did you mean 'beta'"),
        ({"type": "dpo", "beta": 0.0}, "greater than 0"),
        ({"type": "robust_dpo", "flipped": 0.0}, "greater than 0"),
        ({"type": "exo", "label_smoothing": 0.0}, "greater than 0"),
        ({"type": "discopop", "temperature": 2.0}, "less than or equal to 1"),
        ({"type": "orpo", "beta": 0.1}, "unknown key 'beta'"),
        ({"type": "kto", "sft": -1.0}, "greater than or equal to 0"),
        ({"type": "dop"}, "did you mean"),
        ({"type": "json:JSONDecoder"}, "not a subclass"),
    ],
)
def test_refusals_name_the_key_and_the_reason(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        build_preference_loss(table, "stage[0].loss")
    assert str(refusal.value).startswith("stage[0].loss")
