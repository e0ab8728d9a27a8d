"""The transform against transformers' own, scores and their gradients, and chunked = full."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tutelage.functional.logprobs import chunked_logprobs, entropy, gather_logprobs, transform_logits

TRANSFORMS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7, "top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"temperature": 1.3, "top_k": 12, "top_p": 0.7},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.95, "min_p": 0.05},
    {"top_k": 1},
    {"top_p": 1e-6},
]


def random(*shape: int, seed: int = 0, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_transform_is_transformers_own(transform: dict[str, Any]) -> None:
    logits_RV = random(64, 40)
    expected_RV, nobody = logits_RV, torch.zeros(64, 1, dtype=torch.int64)
    warpers = [
        TemperatureLogitsWarper(transform.get("temperature", 1.0)),
        TopKLogitsWarper(transform.get("top_k", 40)),
        TopPLogitsWarper(transform.get("top_p", 1.0)),
        MinPLogitsWarper(transform.get("min_p", 0.0)),
    ]
    for warper in warpers:
        expected_RV = warper(nobody, expected_RV)
    torch.testing.assert_close(transform_logits(logits_RV, **transform), expected_RV)


def test_filters_by_hand() -> None:
    logits_RV = torch.tensor([[0.4, 0.1, 0.2, 0.3]]).log()

    def kept(**transform: Any) -> list[int]:
        return transform_logits(logits_RV, **transform)[0].isfinite().nonzero()[:, 0].tolist()

    assert kept(top_k=2) == [0, 3]
    assert kept(top_p=0.69) == [0, 3]
    assert kept(top_p=0.71) == [0, 2, 3]
    assert kept(top_k=3, top_p=0.75) == [0, 3]  # of the three's mass 0.9, two hold 0.78
    assert kept(min_p=0.6) == [0, 3]
    assert kept(top_k=9, min_p=0.0) == [0, 1, 2, 3]
    assert kept(top_k=1, keep_R=torch.tensor([1])) == [0, 1]
    assert transform_logits(torch.tensor([[1.0, 1.0, 0.0]]), top_k=1)[0].tolist() == [1.0, 1.0, -math.inf]  # tied


def test_greedy_is_refused_with_its_remedy() -> None:
    with pytest.raises(ValueError, match="argmax"):
        transform_logits(torch.zeros(1, 2), temperature=0.0)


def test_a_kept_token_changes_nothing_where_it_was_not_filtered() -> None:
    logits_RV = random(32, 40)
    plain_RV = transform_logits(logits_RV, 0.9, top_k=8, top_p=0.9)
    torch.testing.assert_close(transform_logits(logits_RV, 0.9, 8, 0.9, keep_R=plain_RV.argmax(-1)), plain_RV)
    kept_RV = transform_logits(logits_RV, 0.9, 8, 0.9, keep_R=plain_RV.argmin(-1))
    assert gather_logprobs(kept_RV, plain_RV.argmin(-1)).isfinite().all()
    assert (kept_RV.isfinite().sum(-1) == plain_RV.isfinite().sum(-1) + 1).all()


def test_scores_by_hand() -> None:
    logits_RV = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]]).log() + 3.0
    logprobs_R = gather_logprobs(logits_RV, torch.tensor([1, 0]))
    torch.testing.assert_close(logprobs_R, torch.tensor([math.log(0.25), 0.0]))
    torch.testing.assert_close(entropy(logits_RV), torch.tensor([1.5 * math.log(2), 0.0]))
    assert gather_logprobs(logits_RV.bfloat16(), torch.tensor([1, 0])).dtype == torch.float32


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_finite_differences(transform: dict[str, Any]) -> None:
    targets_R = torch.tensor([3, 0, 7])

    def scores(logits_RV: Tensor) -> tuple[Tensor, Tensor]:
        transformed_RV = transform_logits(logits_RV, **transform, keep_R=targets_R)
        return gather_logprobs(transformed_RV, targets_R), entropy(transformed_RV)

    assert torch.autograd.gradcheck(scores, random(3, 9, seed=5).requires_grad_())


def test_the_gradient_is_finite_where_much_is_filtered() -> None:
    logits_RV = torch.tensor([[1.0, -math.inf, 0.5, -math.inf], [1e4, -1e4, 0.0, -math.inf]], requires_grad=True)
    total = entropy(logits_RV).sum() + gather_logprobs(logits_RV, torch.tensor([0, 0])).sum()
    (grad,) = torch.autograd.grad(total, logits_RV)
    assert total.isfinite()
    assert grad.isfinite().all()
    assert grad[0, [1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rows", [1, 7, 50, 512])
@pytest.mark.parametrize("transform", [None, {"temperature": 0.7, "top_k": 9}])
@pytest.mark.parametrize("entropy_grad", [False, True])
def test_chunked_is_full(rows: int, transform: dict[str, Any] | None, entropy_grad: bool) -> None:
    """In fp32, at the scale of real ones: logits and credits of about 1."""
    hidden_AD = random(103, 8, scale=1.0, dtype=torch.float32)
    weight_VD = random(31, 8, seed=1, scale=0.3, dtype=torch.float32)
    targets_A = torch.arange(103) % 31
    credit_A = random(103, seed=2, scale=1.0, dtype=torch.float32)

    def score(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
        return logits_RV if transform is None else transform_logits(logits_RV, **transform, keep_R=targets_R)

    def results(chunked: bool) -> list[Tensor]:
        hidden, weight = hidden_AD.clone().requires_grad_(), weight_VD.clone().requires_grad_()
        if chunked:
            project = lambda rows_RD: rows_RD @ weight.T  # noqa: E731
            logprobs_A, entropy_A = chunked_logprobs(hidden, project, targets_A, score, rows, entropy_grad)
        else:
            logits_AV = score(hidden @ weight.T, targets_A)
            logprobs_A, entropy_A = gather_logprobs(logits_AV, targets_A), entropy(logits_AV)
            entropy_A = entropy_A if entropy_grad else entropy_A.detach()
        assert entropy_A.requires_grad == entropy_grad
        (logprobs_A * credit_A + 0.3 * entropy_A).sum().backward()
        assert hidden.grad is not None
        assert weight.grad is not None
        return [logprobs_A.detach(), entropy_A.detach(), hidden.grad, weight.grad / 103]  # as a mean loss has it

    for chunked, full in zip(results(chunked=True), results(chunked=False), strict=True):
        torch.testing.assert_close(chunked, full, rtol=1e-6, atol=1e-6)


def test_chunks_hold_the_rows_asked_for_and_no_logits_are_kept() -> None:
    sizes: list[int] = []

    def project(hidden_RD: Tensor) -> Tensor:
        sizes.append(len(hidden_RD))
        return hidden_RD

    hidden_AD, targets_A = random(1300, 4).requires_grad_(), torch.zeros(1300, dtype=torch.int64)
    with torch.no_grad():
        chunked_logprobs(hidden_AD, project, targets_A)
    assert sizes == [650, 650]
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        logprobs_A, _ = chunked_logprobs(hidden_AD, lambda x: x @ torch.ones(4, 99).double(), targets_A)
    assert max(kept, default=0) <= hidden_AD.numel()
    logprobs_A.sum().backward()


def test_no_actions_have_no_logprobs() -> None:
    hidden_AD = torch.zeros(0, 4, requires_grad=True)
    logprobs_A, entropy_A = chunked_logprobs(hidden_AD, lambda x: x, torch.zeros(0, dtype=torch.int64))
    assert logprobs_A.tolist() == entropy_A.tolist() == []
    logprobs_A.sum().backward()
