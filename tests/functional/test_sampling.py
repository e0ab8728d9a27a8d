"""Sampled frequencies against the exact distribution, and the edges of the inverse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tutelage.functional.logprobs import gather_logprobs, sample, transform_logits

TRANSFORMS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"top_k": 20},
    {"temperature": 1.4, "top_p": 0.7},
    {"min_p": 0.2},
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("vocabulary", [3, 300])
def test_frequencies_are_the_exact_distributions(transform: dict[str, Any], vocabulary: int) -> None:
    draws, generator = 20_000, torch.Generator().manual_seed(3)
    raw_V = torch.randn(vocabulary, generator=generator)
    logits_V = transform_logits(raw_V[None], **transform)[0]
    probs_V = logits_V.double().softmax(-1)
    logits_RV = logits_V.expand(draws, -1)

    tokens_R, logprobs_R = sample(logits_RV, torch.rand(draws, generator=generator))
    torch.testing.assert_close(logprobs_R, gather_logprobs(logits_RV, tokens_R), rtol=1e-6, atol=1e-6)
    counts_V = torch.bincount(tokens_R, minlength=vocabulary)
    assert counts_V[probs_V == 0].sum() == 0
    seen = probs_V > 0
    if seen.sum() > 1:
        assert chisquare(counts_V[seen].numpy(), (probs_V[seen] * draws).numpy()).pvalue > 1e-3

    evenly_R = (torch.arange(draws) + 0.5) / draws  # leaves chance out: each token's share of an even grid
    counts_V = torch.bincount(sample(logits_RV, evenly_R)[0], minlength=vocabulary)
    assert (counts_V - probs_V * draws).abs().max() < 1.5


@settings(max_examples=200, deadline=None)
@given(
    vocabulary=st.sampled_from([1, 2, 127, 128, 129, 1000]),
    seed=st.integers(0, 10_000),
    uniform=st.sampled_from([0.0, 1e-45, 1e-7, 0.5, 1.0 - 2**-24, 1.0]),
)
def test_a_filtered_token_is_never_drawn(vocabulary: int, seed: int, uniform: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_RV = 20 * torch.randn(4, vocabulary, generator=generator)
    filtered_RV = torch.rand(4, vocabulary, generator=generator) < 0.9
    filtered_RV[torch.arange(4), torch.randint(vocabulary, (4,), generator=generator)] = False
    tokens_R, logprobs_R = sample(logits_RV.masked_fill(filtered_RV, -math.inf), torch.full((4,), uniform))
    assert not filtered_RV[torch.arange(4), tokens_R].any()
    assert logprobs_R.isfinite().all()


def test_the_edges_give_the_first_and_the_last_token_with_mass() -> None:
    logits_RV = torch.full((2, 600), -math.inf)
    logits_RV[:, [130, 131, 400]] = 0.0
    tokens_R, logprobs_R = sample(logits_RV, torch.tensor([0.0, 1.0]))
    assert tokens_R.tolist() == [130, 400]
    torch.testing.assert_close(logprobs_R, torch.full((2,), -math.log(3)))


def test_one_row_does_not_change_another() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_RV, uniform_R = torch.randn(16, 300, generator=generator), torch.rand(16, generator=generator)
    together_R, _ = sample(logits_RV, uniform_R)
    alone = [sample(logits_RV[i : i + 1], uniform_R[i : i + 1])[0].item() for i in range(16)]
    assert together_R.tolist() == alone
