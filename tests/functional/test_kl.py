"""What each KL estimator is worth, against the exact KL: as a value, as a loss term, as a penalty in the reward."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.functional.oracle import World, gradient, random_logits
from tutelage.functional import kl
from tutelage.functional.reductions import sequence_sums

Estimator = Callable[[Tensor, Tensor], Tensor]
WORLDS = [World(ends=False), World(ends=True)]


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_the_worked_example() -> None:
    policy, reference = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.2, 0.5, 0.3]]).log()
    assert kl.exact(policy, reference).item() == pytest.approx(0.2238, abs=5e-5)
    assert kl.exact(reference, policy).item() == pytest.approx(0.1938, abs=5e-5)  # the other way round is another


def test_values_by_hand() -> None:
    policy_A, reference_A = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5])
    close(kl.k1(policy_A, reference_A), torch.tensor([1.0, -0.5]))
    close(kl.k2(policy_A, reference_A), torch.tensor([0.5, 0.125]))
    expected = torch.tensor([math.exp(-1.0) - 1 + 1.0, math.exp(0.5) - 1 - 0.5])
    torch.testing.assert_close(kl.k3(policy_A, reference_A), expected)


def test_exact_of_filtered_distributions() -> None:
    inf = math.inf
    policy = torch.tensor([[0.0, 0.0, -inf], [0.0, 0.0, -inf]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[0.0, 0.0, 0.0], [0.0, -inf, 0.0]], dtype=torch.float64)
    values = kl.exact(policy, reference)
    close(values, torch.tensor([math.log(3 / 2), inf], dtype=torch.float64))
    (grad,) = torch.autograd.grad(values[0], policy)
    close(grad[0], torch.zeros_like(grad[0]))  # uniform as the reference is: no less KL on these two tokens
    close(kl.exact(policy, policy), torch.zeros(2, dtype=torch.float64))


def expectation_at_the_first_token(estimator: Estimator) -> tuple[Tensor, Tensor]:
    """The value and the gradient of E[estimate] when the policy samples; the sampling itself is held fixed."""
    policy, reference = random_logits(1)[:1].requires_grad_(), random_logits(6)[:1]
    policy_V, reference_V = policy.log_softmax(-1)[0], reference.log_softmax(-1)[0]
    mean = (policy_V.detach().exp() * estimator(policy_V, reference_V)).sum()
    return mean.detach(), gradient(mean, policy)


def exact_at_the_first_token() -> tuple[Tensor, Tensor, Tensor]:
    policy, reference = random_logits(1)[:1].requires_grad_(), random_logits(6)[:1]
    forward, backward = kl.exact(policy, reference).sum(), kl.exact(reference, policy).sum()
    return forward.detach(), gradient(forward, policy), gradient(backward, policy)


def test_k1_has_the_kls_value_and_as_a_loss_no_gradient() -> None:
    value, grad = expectation_at_the_first_token(kl.k1)
    close(value, exact_at_the_first_token()[0])
    close(grad, torch.zeros_like(grad))


def test_k2_has_the_kls_gradient_as_a_loss_but_not_its_value() -> None:
    value, grad = expectation_at_the_first_token(kl.k2)
    exact, exact_grad, _ = exact_at_the_first_token()
    close(grad, exact_grad)
    assert abs(value - exact) > 0.05


def test_k3_has_the_kls_value_but_as_a_loss_the_reverse_kls_gradient() -> None:
    value, grad = expectation_at_the_first_token(kl.k3)
    exact, exact_grad, reverse_grad = exact_at_the_first_token()
    close(value, exact)
    close(grad, reverse_grad)
    assert (grad - exact_grad).abs().max() > 0.05


def sequence_expectation(world: World, estimator: Estimator, in_reward: bool) -> tuple[Tensor, Tensor, Tensor]:
    """E[sum of estimates], its gradient as a loss term or through the reward, and the gradient of the exact KL."""
    policy, reference = random_logits(1).requires_grad_(), random_logits(6)
    everything = range(len(world.sequences))
    policy_A, _, sequence_A = world.actions_of(policy, everything)
    reference_A = world.actions_of(reference, everything)[0]
    estimate_S = sequence_sums(estimator(policy_A, reference_A), sequence_A, len(everything))
    logprobs_S = world.logprobs_S(policy)
    probability_S = logprobs_S.detach().exp()
    mean = (probability_S * estimate_S).sum()
    scored = (probability_S * estimate_S.detach() * logprobs_S).sum()
    exact = gradient(world.exact_kl(policy, reference), policy)
    return mean.detach(), gradient(scored if in_reward else mean, policy), exact


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("estimator", [kl.k1, kl.k3])
def test_summed_over_a_sequence_k1_and_k3_have_the_sequences_kl(world: World, estimator: Estimator) -> None:
    value, _, _ = sequence_expectation(world, estimator, in_reward=False)
    close(value, world.exact_kl(random_logits(1), random_logits(6)))


@pytest.mark.parametrize("world", WORLDS)
def test_in_the_reward_only_k1_gives_the_gradient_of_the_sequences_kl(world: World) -> None:
    _, grad, exact = sequence_expectation(world, kl.k1, in_reward=True)
    close(grad, exact)
    for estimator in (kl.k2, kl.k3):
        _, grad, exact = sequence_expectation(world, estimator, in_reward=True)
        assert (grad - exact).abs().max() > 0.05


@pytest.mark.parametrize("world", WORLDS)
def test_as_a_loss_k2_gives_each_states_kl_but_not_what_a_token_does_to_later_ones(world: World) -> None:
    _, grad, exact = sequence_expectation(world, kl.k2, in_reward=False)
    policy, reference = random_logits(1).requires_grad_(), random_logits(6)
    first_V = policy[0].detach().softmax(-1)
    reached = torch.cat([torch.ones(1, dtype=torch.float64), first_V])  # how often each context is met
    if world.ends:
        reached[1] = 0.0
    close(grad, gradient((reached * kl.exact(policy, reference)).sum(), policy))
    assert (grad - exact).abs().max() > 0.05


@pytest.mark.parametrize("estimator", [kl.k1, kl.k2, kl.k3])
def test_finite_differences(estimator: Estimator) -> None:
    policy = random_logits(1).flatten().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: estimator(p, random_logits(6).flatten()), policy)
    logits = random_logits(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: kl.exact(p, random_logits(4)), logits)


def test_an_abandoned_token_gives_a_finite_value_and_no_gradient() -> None:
    policy = torch.tensor([-200.0, -1.0], requires_grad=True)
    kl.k3(policy, torch.tensor([-1.0, -1.0])).sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("behaviour", [None, 4])
def test_the_unbiased_k3_is_the_kl_and_its_gradient_on_another_policys_samples(behaviour: int | None) -> None:
    policy, reference = random_logits(1)[:1].requires_grad_(), random_logits(6)[:1]
    sampler_V = (policy.detach() if behaviour is None else random_logits(behaviour)[:1]).log_softmax(-1)[0]
    estimate_V = kl.k3_unbiased(policy.log_softmax(-1)[0], reference.log_softmax(-1)[0], sampler_V)
    mean = (sampler_V.exp() * estimate_V).sum()
    value, slope, _ = exact_at_the_first_token()
    close(mean.detach(), value)
    close(gradient(mean, policy), slope)
