"""Choices and Gaussians, against torch's own distributions."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from tutelage.functional import distributions, kl


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_categorical() -> None:
    logits_AK, actions_A = random(5, 3, seed=1), torch.tensor([0, 2, 1, 1, 0])
    logprobs_A, entropy_A = distributions.categorical(logits_AK, actions_A)
    torch.testing.assert_close(logprobs_A, Categorical(logits=logits_AK).log_prob(actions_A))
    torch.testing.assert_close(entropy_A, Categorical(logits=logits_AK).entropy())
    other_AK = random(5, 3, seed=2)
    expected = kl_divergence(Categorical(logits=logits_AK), Categorical(logits=other_AK))
    torch.testing.assert_close(kl.exact(logits_AK, other_AK), expected)


def test_gaussian() -> None:
    mean_AK, log_std_K, actions_AK = random(5, 2, seed=1), random(2, seed=2), random(5, 2, seed=3)

    def of(mean_AK: torch.Tensor, log_std_K: torch.Tensor) -> Independent:
        return Independent(Normal(mean_AK, log_std_K.exp().expand_as(mean_AK)), 1)

    logprobs_A, entropy_A = distributions.gaussian(mean_AK, log_std_K, actions_AK)
    torch.testing.assert_close(logprobs_A, of(mean_AK, log_std_K).log_prob(actions_AK))
    torch.testing.assert_close(entropy_A, of(mean_AK, log_std_K).entropy())
    other_AK, other_log_std_K = random(5, 2, seed=4), random(2, seed=5)
    expected = kl_divergence(of(mean_AK, log_std_K), of(other_AK, other_log_std_K))
    found = distributions.gaussian_kl(mean_AK, log_std_K, other_AK, other_log_std_K)
    torch.testing.assert_close(found, expected)
