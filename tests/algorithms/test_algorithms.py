"""What every algorithm owes the rest: recipes, sums that add up, finite losses, right gradients, honest metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.functional.oracle import experience_of
from tutelage.algorithms import (
    ALGORITHMS,
    A2c,
    Algorithm,
    Cispo,
    ClipCov,
    Dapo,
    Distillation,
    DrGrpo,
    Gmpo,
    Grpo,
    Gspo,
    HighEntropy,
    Kimi,
    KlCov,
    LitePpo,
    Luffy,
    Opo,
    Ppo,
    Prime,
    Reinforce,
    ReinforcePp,
    Remax,
    Rloo,
    Rlp,
    Sapo,
    Spiral,
    Trpo,
    TrrPp,
    Vapo,
    build_algorithm,
    supervised_loss,
)
from tutelage.errors import ConfigError
from tutelage.functional import advantages, policy_losses
from tutelage.types import Actions, Credit, Experience, Loss

CHOOSING: dict[str, Algorithm] = {  # some tokens of a micro-batch are treated apart
    "clip_cov": ClipCov(share=0.3, least=-9.0, most=9.0),
    "kl_cov": KlCov(share=0.3),
    "high_entropy": HighEntropy(share=0.5),
}
EVERY: dict[str, Algorithm] = {
    "reinforce": Reinforce(),
    "a2c": A2c(discount=1.0),
    "ppo": Ppo(),
    "ppo with everything": Ppo(clip_dual=3.0, penalty=0.5, kl=0.1, kl_in="loss", kl_estimator="k2"),
    "trpo": Trpo(),
    "grpo": Grpo(),
    "grpo without anchor": Grpo(kl=0.0, clip_high=0.28),
    "grpo, unbiased k3": Grpo(kl_estimator="k3_unbiased"),
    "grpo, exact": Grpo(kl_estimator="exact"),
    "dr_grpo": DrGrpo(length=10),
    "rloo": Rloo(),
    "rloo with anchor": Rloo(kl=0.1),
    "rlp": Rlp(),
    "reinforce_pp": ReinforcePp(),
    "remax": Remax(),
    "lite_ppo": LitePpo(),
    "dapo": Dapo(),
    "gspo": Gspo(clip_low=0.05, clip_high=0.05),
    "gspo-token": Gspo(level="token", clip_low=0.05, clip_high=0.05),
    "cispo": Cispo(),
    "gmpo": Gmpo(),
    "kimi": Kimi(),
    "sapo": Sapo(),
    "opo": Opo(),
    "vapo": Vapo(),
    "luffy": Luffy(),
    "distillation": Distillation(),
    "distillation, sampled": Distillation(kl_in="reward", kl_estimator="k1"),
    "prime": Prime(),
    "spiral": Spiral(),
    "trr_pp": TrrPp(),
    **CHOOSING,
}
LOSSES = {**{name: algorithm.loss for name, algorithm in EVERY.items()}, "supervised": supervised_loss}
BY_TOKEN = (
    "luffy",
    "distillation",
    "distillation, sampled",
    "trr_pp",
    "ppo",
    "a2c",
    "trpo",
    "dapo",
    "lite_ppo",
    "cispo",
    "reinforce_pp",
    "vapo",
    "prime",
    "supervised",
    *CHOOSING,
)


def test_every_algorithm_is_here() -> None:
    paired = {"online_dpo"}  # its loss wants two answers of every group: test_online_dpo
    assert {algorithm.type for algorithm in EVERY.values()} | paired == set(ALGORITHMS)


def make_actions(dtype: torch.dtype = torch.float64, spread: float = 0.1) -> Actions:
    """Four sequences of 3, 0, 1 and 4 actions; `spread` is how far the policy is from the behaviour."""
    generator = torch.Generator().manual_seed(7)

    def random() -> Tensor:
        return torch.randn(8, generator=generator, dtype=torch.float64)

    sequence_A = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3])
    logprobs_A, credit_B = -random().abs() - 0.1, random()[:4]
    return Actions(
        logprobs_A=logprobs_A.to(dtype),
        entropy_A=random().abs().to(dtype),
        advantages_A=credit_B[sequence_A].to(dtype),
        behaviour_A=(logprobs_A + spread * random()).to(dtype),
        reference_A=(logprobs_A + 0.3 * random()).to(dtype),
        sequence_A=sequence_A,
        sequences=4,
        rewards_A=torch.tensor([1.0, 0.0, 0.0, 1.0])[sequence_A],
        expert_A=sequence_A == 0,
        kl_A=(0.1 * logprobs_A.square()).to(dtype),
        dials={"penalty": 0.5},
    )


FLAT = ("expert_A", "logprobs_A", "entropy_A", "advantages_A", "behaviour_A", "reference_A", "rewards_A", "kl_A")


def pick(actions: Actions, wanted: list[int]) -> Actions:
    """The micro-batch of the wanted sequences."""
    here_A = torch.isin(actions.sequence_A, torch.tensor(wanted))
    here = {name: getattr(actions, name)[here_A] for name in FLAT}
    sequence_A = torch.searchsorted(torch.tensor(wanted), actions.sequence_A[here_A])
    return replace(actions, **here, sequence_A=sequence_A, sequences=len(wanted))


def loss_and_gradient(name: str, actions: Actions) -> tuple[Loss, Tensor]:
    logprobs_A = actions.logprobs_A.clone().requires_grad_()
    loss = LOSSES[name](replace(actions, logprobs_A=logprobs_A))
    return loss, torch.autograd.grad(loss.total, logprobs_A)[0]


# Their gradient is, by design, not that of their value: a weight or a ratio is held constant.
HELD = ("cispo", "gspo-token", "clip_cov")


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in HELD])
def test_finite_differences(name: str) -> None:
    actions = make_actions()

    def total(logprobs_A: Tensor) -> Tensor:
        return LOSSES[name](replace(actions, logprobs_A=logprobs_A)).total

    assert torch.autograd.gradcheck(total, actions.logprobs_A.clone().requires_grad_())


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in CHOOSING])
def test_micro_batches_add_up_to_the_whole(name: str) -> None:
    """In fp32 to 1e-6: the total, its gradient and the metrics."""
    actions = make_actions(torch.float32)
    whole, gradient_A = loss_and_gradient(name, actions)
    parts = [([0, 1], [0, 1, 2]), ([2, 3], [3, 4, 5, 6, 7])]
    total, metrics = torch.zeros(()), {key: torch.zeros(()) for key in whole.metrics}
    for sequences, places in parts:
        part, part_gradient = loss_and_gradient(name, pick(actions, sequences))
        assert part.unit == whole.unit
        torch.testing.assert_close(part_gradient, gradient_A[places], rtol=1e-6, atol=1e-6)
        total = total + part.total.detach()
        metrics = {key: metrics[key] + part.metrics[key] for key in metrics}
    torch.testing.assert_close(total, whole.total.detach(), rtol=1e-6, atol=1e-6)
    for key, value in metrics.items():
        torch.testing.assert_close(value, whole.metrics[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_on_policy_the_gradient_is_the_credit_over_the_loss_own_length(name: str) -> None:
    """By hand: -A / length of the sequence, over the constant, or whole; the anchors add what their papers say."""
    actions = make_actions(spread=0.0)
    assert actions.reference_A is not None
    assert actions.rewards_A is not None
    _, gradient_A = loss_and_gradient(name, actions)
    credit_A, x_A = actions.advantages_A, actions.logprobs_A - actions.reference_A
    length_A = torch.tensor([3.0, 3, 3, 1, 4, 4, 4, 4], dtype=torch.float64)
    kl_A, probs_A = (-x_A).exp() - 1 + x_A, actions.logprobs_A.exp()
    assert actions.expert_A is not None
    expected = {
        "ppo with everything": -credit_A + 0.1 * x_A,
        "grpo": (-credit_A + 0.04 * (1 - (-x_A).exp())) / length_A,
        "grpo, unbiased k3": (-credit_A + 0.04 * (1 - (-x_A).exp() + kl_A)) / length_A,
        "grpo, exact": -credit_A / length_A,  # its KL carries a gradient of its own
        "gspo": -credit_A / length_A,
        "gspo-token": -credit_A / length_A,
        "gmpo": -credit_A / length_A,
        "sapo": -credit_A / length_A,
        "vapo": -credit_A - 0.1 * actions.rewards_A,
        "luffy": torch.where(actions.expert_A, -credit_A * probs_A * 0.1 / (probs_A + 0.1).square(), -credit_A),
        "kl_cov": -credit_A,  # the penalty's slope at 0 is taken as 0
        "high_entropy": torch.where(actions.entropy_A >= actions.entropy_A.topk(4).values[-1], -credit_A, 0.0),
        "grpo without anchor": -credit_A / length_A,
        "rlp": -credit_A / length_A,
        "dr_grpo": -credit_A / 10,
    }
    if name == "clip_cov":  # two tokens of eight are taken out
        assert ((gradient_A == 0) & (credit_A != 0)).sum() == 2
        torch.testing.assert_close(gradient_A, torch.where(gradient_A == 0, 0.0, -credit_A))
        return
    if name == "a2c":
        expected["a2c"] = -credit_A  # its entropy bonus carries a gradient of its own
    torch.testing.assert_close(gradient_A, expected.get(name, -credit_A))


@pytest.mark.parametrize("name", LOSSES)
def test_no_actions_cost_nothing(name: str) -> None:
    loss, gradient_A = loss_and_gradient(name, pick(make_actions(), [1]))
    assert loss.total.item() == 0.0
    assert all(value.item() == 0.0 for value in loss.metrics.values())
    assert gradient_A.shape == (0,)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gap", [-500.0, 500.0])
def test_extreme_ratios_stay_finite(name: str, gap: float) -> None:
    actions = make_actions(torch.float32)
    far = replace(actions, behaviour_A=actions.logprobs_A - gap, reference_A=actions.logprobs_A - gap)
    loss, gradient_A = loss_and_gradient(name, far)
    assert loss.total.isfinite()
    assert gradient_A.isfinite().all()
    if name in ("grpo", "grpo without anchor", "dr_grpo", "dapo", "gspo", "gmpo") and gap > 0:
        assert gradient_A[actions.advantages_A > 0].eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_units_and_metrics(name: str) -> None:
    loss, _ = loss_and_gradient(name, make_actions())
    assert loss.unit == ("tokens" if name.startswith(BY_TOKEN) else "sequences")
    assert {"entropy", "kl"} <= set(loss.metrics) or name == "supervised"
    assert not any(value.requires_grad for value in loss.metrics.values())


def test_metrics_by_hand() -> None:
    actions = make_actions(spread=0.5)
    assert actions.reference_A is not None
    ratio_A = (actions.logprobs_A - actions.behaviour_A).exp()
    x_A = actions.logprobs_A - actions.reference_A
    clipped_A = ((ratio_A > 1.2) & (actions.advantages_A > 0)) | ((ratio_A < 0.8) & (actions.advantages_A < 0))
    assert 0 < clipped_A.sum() < 8
    metrics = Grpo().loss(actions).metrics
    expected = {"ratio": ratio_A, "clipped": clipped_A, "kl": (-x_A).exp() - 1 + x_A, "entropy": actions.entropy_A}
    for key, value in expected.items():
        assert metrics[key].item() == pytest.approx(value.sum().item(), rel=1e-6)


def test_a_missing_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="needs_reference"):
        Grpo().loss(replace(make_actions(), reference_A=None))
    with pytest.raises(ValueError, match="needs_reference"):
        Rloo(kl=0.1).penalised(experience(torch.tensor([[1.0, 0.0]])))


def test_who_needs_a_reference() -> None:
    assert {name for name, algorithm in EVERY.items() if algorithm.needs_reference} == {
        "grpo", "grpo, unbiased k3", "grpo, exact", "rloo with anchor", "ppo with everything", "distillation",
        "distillation, sampled",
    }  # fmt: skip


def experience(rewards_PG: Tensor, valid_PG: Tensor | None = None, greedy_P: Tensor | None = None) -> Experience:
    """Answers of one token and more: the i-th sequence has 1 + i % 3, but for the invalid ones, which have none."""
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if valid_PG is None else valid_PG
    lengths_B = torch.where(valid_PG.flatten(), 1 + torch.arange(rewards_PG.numel()) % 3, 0)
    sequence_A = torch.arange(rewards_PG.numel()).repeat_interleave(lengths_B)
    of = experience_of(rewards_PG.flatten(), sequence_A, -torch.rand(len(sequence_A)))
    whole = {"rewards_PG": rewards_PG, "valid_PG": valid_PG, "truncated_PG": torch.zeros_like(valid_PG)}
    return replace(of, **whole, greedy_P=greedy_P)


def test_credit_is_the_papers() -> None:
    rewards_PG, valid_PG = torch.tensor([[0.0, 0.0, 3.0], [1.0, 2.0, 9.0]]), torch.tensor([[True] * 3] * 2)
    valid_PG[1, 2] = False
    std = 3.0**0.5 + 1e-4
    half = 0.5 / (0.5**0.5 + 1e-4)
    whole = [-1.0, -1.0, 2.0, -0.5, 0.5]  # centred
    spread = torch.tensor([0.0, 0.0, 3.0, 1.0, 2.0]).std().item() + 1e-4
    expected = {
        "lite_ppo": [[x / spread for x in whole[:3]], [*(x / spread for x in whole[3:]), 0.0]],
        "kimi": [[-1.0, -1.0, 2.0], [-0.5, 0.5, 0.0]],
        "remax": [[-1.0, -1.0, 2.0], [-1.0, 0.0, 0.0]],
        "grpo": [[-1 / std, -1 / std, 2 / std], [-half, half, 0.0]],
        "dr_grpo": [[-1.0, -1.0, 2.0], [-0.5, 0.5, 0.0]],
        "rloo": [[-1.5, -1.5, 3.0], [-1.0, 1.0, 0.0]],
        "prime": [[-1.5, -1.5, 3.0], [-1.0, 1.0, 0.0]],
        "rlp": [[-1.5, -1.5, 3.0], [-1.0, 1.0, 0.0]],
        "reinforce": [[-1.2, -1.2, 1.8], [-0.2, 0.8, 0.0]],
    }
    of = experience(rewards_PG, valid_PG, greedy_P=torch.tensor([1.0, 2.0]))
    for name in ("dapo", "gspo", "luffy", "cispo", "gmpo", "clip_cov", "kl_cov", "high_entropy", "sapo"):
        expected[name] = expected["grpo"]
    for name, credit in expected.items():
        algorithm = build_algorithm({"type": name}, "algorithm")
        advantages_A = algorithm.credit(of).advantages_A
        torch.testing.assert_close(advantages_A, torch.tensor(credit).flatten()[of.sequence_A], msg=name)
    plain = Reinforce(baseline="none").credit(of)
    assert plain.advantages_A.tolist() == torch.tensor([[0.0, 0, 3], [1, 2, 0]]).flatten()[of.sequence_A].tolist()


def test_a_recipes_table_with_the_papers_defaults() -> None:
    assert build_algorithm({"type": "grpo"}, "algorithm") == Grpo(kl=0.04, clip_low=0.2, clip_high=0.2)
    assert build_algorithm({"type": "dr_grpo", "length": 64}, "algorithm") == DrGrpo(length=64)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"type": "reinforec"}, ["stage[1].algorithm.type", "did you mean 'reinforce'?"]),
        ({"type": "grpo", "klcoef": 0.1}, ["stage[1].algorithm", "unknown key 'klcoef'"]),
        ({"type": "grpo", "kl": -1}, ["stage[1].algorithm.kl", "greater than or equal to 0"]),
        ({"type": "reinforce", "baseline": "median"}, ["stage[1].algorithm.baseline", "'median'"]),
        ({"type": "dr_grpo", "length": 0}, ["stage[1].algorithm.length"]),
    ],
)
def test_mistakes_are_refused_with_their_place(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        build_algorithm(table, "stage[1].algorithm")
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize("algorithm", [Grpo(), DrGrpo(), Rloo(), Rlp()])
def test_a_group_of_one_is_refused_with_reason_and_remedy(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError) as refusal:
        algorithm.check_group_size(1, "stage[1].completions_per_prompt")
    for word in ("stage[1].completions_per_prompt: 1", "every advantage would be 0", "at least 2", "reinforce"):
        assert word in str(refusal.value)
    algorithm.check_group_size(2)
    Reinforce().check_group_size(1)


class Timid(Grpo):
    """A user's own: GRPO with half the credit."""

    courage: float = 0.5

    def credit(self, experience: Experience) -> Credit:
        return Credit(self.courage * super().credit(experience).advantages_A)


def test_a_users_own_algorithm_may_inherit_a_built_in_one() -> None:
    timid = build_algorithm({"type": f"{__name__}:Timid", "courage": 0.25, "kl": 0.0}, "algorithm")
    of = experience(torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(timid.credit(of).advantages_A, 0.25 * Grpo().credit(of).advantages_A)


def test_gspo_by_token_is_gspo_where_tokens_share_their_advantage() -> None:
    actions = make_actions()
    _, by_token_A = loss_and_gradient("gspo-token", actions)
    _, by_sequence_A = loss_and_gradient("gspo", actions)
    torch.testing.assert_close(by_token_A, by_sequence_A)


def test_cispo_holds_its_weight() -> None:
    actions = make_actions(spread=0.5)
    weight_A = (actions.logprobs_A - actions.behaviour_A).exp().clamp(0.8, 1.2)
    logprobs_A = actions.logprobs_A.clone().requires_grad_()
    loss = Cispo(clip_low=0.2, clip_high=0.2).loss(replace(actions, logprobs_A=logprobs_A))
    (gradient_A,) = torch.autograd.grad(loss.total, logprobs_A)
    torch.testing.assert_close(gradient_A, -weight_A * actions.advantages_A)


def test_opos_baseline_weighs_rewards_by_length() -> None:
    """Of the second group one reward failed, the third has no answer longer than 0, the fourth earned the same."""
    rewards_PG = torch.tensor([[1.0, 0.0, 4.0], [2.0, 6.0, 9.0], [1.0, 2.0, 3.0], [0.7, 0.7, 0.7]])
    lengths_PG = torch.tensor([[2, 5, 1], [3, 1, 7], [0, 0, 0], [1, 2, 3]])
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
    valid_PG[1, 2] = False
    found_PG = advantages.length_centred(rewards_PG, lengths_PG, valid_PG)
    expected_PG = torch.tensor([[0.25, -0.75, 3.25], [-1.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(found_PG, expected_PG)
    assert found_PG[3].eq(0).all()


def test_sapos_gate_closes_sooner_where_the_advantage_is_negative() -> None:
    """sech^2 of half the distance: the weight of a token's gradient, 1 on-policy."""
    ratio_A = torch.tensor([1.0, 1.0, 3.0, 3.0, 0.2, 0.2], dtype=torch.float64).requires_grad_()
    signs_A = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
    terms_A = policy_losses.gated_surrogate(ratio_A, signs_A, 1.0, 1.05)
    (slopes_A,) = torch.autograd.grad(terms_A.sum(), ratio_A)
    temperature_A = torch.tensor([1.0, 1.05] * 3, dtype=torch.float64)
    expected_A = torch.cosh(temperature_A * (ratio_A.detach() - 1.0) / 2.0) ** -2
    torch.testing.assert_close(-signs_A * slopes_A, expected_A)
    assert expected_A[0] == expected_A[1] == 1.0
    assert expected_A[3] < expected_A[2] < 1.0


def test_dapo_learns_from_groups_with_spread_and_answers_that_ended() -> None:
    rewards_PG = torch.tensor([[1.0, 1.0], [1.0, -1.0], [0.3, 0.3]])
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
    assert Dapo().informative(rewards_PG, valid_PG).tolist() == [False, True, False]
    assert Dapo(dynamic_sampling=False).informative(rewards_PG, valid_PG).all()
    of = experience(rewards_PG)
    of.truncated_PG[1, 0] = True
    for filtered in (True, False):
        credit_A = Dapo(overlong_filter=filtered).credit(of).advantages_A
        assert credit_A[of.sequence_A == 2].eq(0).all() == filtered
        assert credit_A[of.sequence_A == 3].ne(0).all()


def test_kimis_length_reward_by_hand() -> None:
    """Lengths 1, 2, 3: +0.5, 0, -0.5; the wrong first one gets 0 instead of 0.5."""
    of = experience(torch.tensor([[0.0, 1.0, 1.0]]))
    bonus = torch.tensor([0.0, 0.0, -0.5])
    expected_B = torch.tensor([0.0, 1.0, 1.0]) + 2.0 * bonus
    credit = Kimi(length_weight=2.0).credit(of)
    torch.testing.assert_close(credit.advantages_A, (expected_B - expected_B.mean())[of.sequence_A])


def test_the_anchor_in_the_reward_is_taken_off_token_by_token() -> None:
    of = experience(torch.tensor([[1.0, 0.0]]))
    of = replace(of, reference_A=of.behaviour_A - torch.tensor([0.1, 0.2, 0.3]))
    less = Rloo(kl=2.0).penalised(of)
    torch.testing.assert_close(less.rewards_A, torch.tensor([1.0 - 0.2, -0.4, -0.6]))
    torch.testing.assert_close(less.rewards_PG, torch.tensor([[0.8, -1.0]]))
    assert Grpo().penalised(of) is of


def test_an_adaptive_penalty_doubles_and_halves() -> None:
    ppo = Ppo(penalty=1.0, penalty_target=0.01)
    assert ppo.dials == {"penalty": 1.0}
    for moved, expected in ((0.0151, 2.0), (0.0149, 1.0), (0.0067, 1.0), (0.0066, 0.5)):
        assert ppo.turned({"penalty": 1.0}, {"moved": moved}) == {"penalty": expected}
    assert Ppo(penalty=1.0).turned({"penalty": 1.0}, {"moved": 9.0}) == {"penalty": 1.0}


@pytest.mark.parametrize("name", EVERY)
def test_equal_rewards_teach_nothing_and_nothing_is_nan(name: str) -> None:
    """But for the baselines that do not compare: REINFORCE's none, ReMax's greedy answer, a critic that is wrong."""
    of = replace(experience(torch.full((2, 3), 0.7)), greedy_P=torch.tensor([0.7, 0.7]))
    of = replace(of, reference_A=of.behaviour_A, values_A=torch.full_like(of.behaviour_A, 0.7))
    credit = EVERY[name].credit(EVERY[name].penalised(of))
    assert credit.advantages_A.isfinite().all()
    torch.testing.assert_close(credit.advantages_A, torch.zeros_like(credit.advantages_A), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"type": "grpo", "kl_estimator": "k1"}, ["no gradient in expectation", "kl_in = 'reward'"]),
        ({"type": "rloo", "kl": 0.1, "kl_estimator": "exact"}, ["exact is for kl_in = 'loss'"]),
        ({"type": "ppo", "penalty_target": 0.01}, ["no penalty to adapt"]),
        ({"type": "trpo", "baseline": "group", "critic": {"kind": "model"}}, ["critic: baseline = 'group' has no"]),
        ({"type": "trpo", "baseline": "group", "whiten": False}, ["whiten: baseline = 'group' has no critic"]),
        ({"type": "reinforce_pp", "baseline": "group", "discount": 0.9}, ["discount: baseline = 'group' credits"]),
        ({"type": "reinforce", "discount": 0.9}, ["discount: sequences are credited", "credit_of = 'action'"]),
        ({"type": "kimi", "correct": 0.5}, ["correct: only the length reward", "length_weight"]),
        ({"type": "trpo", "critic": {"kind": "head"}}, ["past the trust region", "'model'"]),
        ({"type": "grpo", "critic": {"decay": 1.0}}, ["unknown key 'critic'"]),
        ({"type": "gspo", "level": "word"}, ["algorithm.level", "'word'"]),
    ],
)
def test_contradictions_are_refused_with_the_remedy(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        build_algorithm(table, "stage[1].algorithm")
    for word in words:
        assert word in str(refusal.value)
