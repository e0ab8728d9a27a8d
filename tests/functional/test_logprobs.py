"""The transform against transformers' own, scores and their gradients, and chunked = full."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tutelage.config import Sampling
from tutelage.functional import logprobs
from tutelage.functional.logprobs import (
    Head,
    chunked_logprobs,
    entropy,
    gather_logprobs,
    likeliest,
    top_entropy,
    transform_logits,
)

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
    total = 3.0 * entropy(logits_RV).sum() + gather_logprobs(logits_RV, torch.tensor([0, 0])).sum()
    (grad,) = torch.autograd.grad(total, logits_RV)
    assert total.isfinite()
    assert grad.isfinite().all()
    assert grad[0, [1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rows", [1, 7, 50, 512])
@pytest.mark.parametrize("transform", [{}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.8}, {"min_p": 0.05}])
@pytest.mark.parametrize("entropy_grad", [False, True])
@pytest.mark.parametrize("kind", ["plain", "bias", "softcap"])
def test_chunked_is_full(
    rows: int, transform: dict[str, Any], entropy_grad: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32, at the scale of real ones: logits and credits of about 1."""
    monkeypatch.setattr(logprobs, "_CACHED", 31 * 20)  # several blocks in a chunk, the last one shorter
    leaves = [random(103, 8, scale=1.0, dtype=torch.float32), random(31, 8, seed=1, scale=0.3, dtype=torch.float32)]
    leaves += [random(31, seed=3, scale=0.5, dtype=torch.float32)] if kind == "bias" else []
    softcap = 1.5 if kind == "softcap" else None
    targets_A = torch.arange(103) % 31
    credit_A, bonus_A = (random(103, seed=seed, scale=1.0, dtype=torch.float32) for seed in (2, 4))

    def results(chunked: bool) -> list[Tensor]:
        hidden, weight, *rest = [leaf.clone().requires_grad_() for leaf in leaves]
        bias = rest[0] if rest else None
        if chunked:
            head = Head(weight, bias, softcap)
            sampling = Sampling(**transform)
            logprobs_A, entropy_A = chunked_logprobs(hidden, head, targets_A, sampling, rows, entropy_grad)
        else:
            logits_AV = F.linear(hidden, weight, bias)
            logits_AV = logits_AV if softcap is None else (logits_AV / softcap).tanh() * softcap
            logits_AV = transform_logits(logits_AV, **transform, keep_R=targets_A)
            logprobs_A, entropy_A = gather_logprobs(logits_AV, targets_A), entropy(logits_AV)
            entropy_A = entropy_A if entropy_grad else entropy_A.detach()
        assert entropy_A.requires_grad == entropy_grad
        (logprobs_A * credit_A + entropy_A * bonus_A).sum().backward()
        grads = [leaf.grad for leaf in (hidden, weight, *rest)]
        return [logprobs_A.detach(), entropy_A.detach(), grads[0], *(g / 103 for g in grads[1:])]  # as a mean's are

    for chunked, full in zip(results(chunked=True), results(chunked=False), strict=True):
        torch.testing.assert_close(chunked, full, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.3, top_k=5)])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("entropy_grad", [False, True])
def test_chunked_finite_differences(sampling: Sampling, softcap: float | None, entropy_grad: bool) -> None:
    def scores(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        head = Head(weight, bias, softcap)
        both = chunked_logprobs(hidden, head, torch.tensor([3, 0, 7, 1, 8]), sampling, 2, entropy_grad)
        return both if entropy_grad else both[:1]

    leaves = random(5, 4, seed=7), random(9, 4, seed=8), random(9, seed=9)
    assert torch.autograd.gradcheck(scores, tuple(leaf.requires_grad_() for leaf in leaves))


@pytest.mark.parametrize("temperature", [1.0, 1.01])
def test_the_gradient_in_bf16_is_exact_but_for_its_rounding(temperature: float) -> None:
    """For confident tokens too: p - 1 out of a p in bf16 would be 0 for them, and they would learn nothing."""
    hidden_AD, weight_VD = random(600, 16, dtype=torch.float32).bfloat16(), random(50, 16, seed=1).bfloat16()
    logprobs_AV = ((hidden_AD @ weight_VD.T).float() / temperature).log_softmax(-1)
    top_A, targets_A = logprobs_AV.max(-1)
    confident_A = (top_A > -2e-3) & (top_A < -1e-5)
    assert confident_A.sum() > 20
    credit_A = random(600, seed=2, dtype=torch.float32)
    for chosen_A in (torch.ones_like(confident_A), confident_A):
        weights_A = credit_A * chosen_A
        hidden, weight = hidden_AD.clone().requires_grad_(), weight_VD.clone().requires_grad_()
        sampling = Sampling(temperature=temperature)
        scored_A, _ = chunked_logprobs(hidden, Head(weight), targets_A, sampling, rows=100)
        found = torch.autograd.grad((scored_A * weights_A).sum(), [hidden, weight])
        slope_AV = weights_A[:, None] / temperature * (F.one_hot(targets_A, 50) - logprobs_AV.exp())
        exact = slope_AV @ weight_VD.float(), slope_AV.T @ hidden_AD.float()
        for ours, theirs in zip(found, exact, strict=True):
            assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def test_a_frozen_head_or_frozen_states_receive_nothing() -> None:
    hidden, weight, targets_A = random(9, 4), random(7, 4, seed=1), torch.zeros(9, dtype=torch.int64)
    chunked_logprobs(hidden, Head(weight.requires_grad_()), targets_A)[0].sum().backward()
    alone = weight.grad
    assert hidden.grad is None
    chunked_logprobs(hidden.requires_grad_(), Head(weight.detach()), targets_A)[0].sum().backward()
    assert torch.equal(weight.grad, alone)
    assert hidden.grad.abs().sum() > 0


def test_no_logits_are_kept_and_no_more_than_two_chunks_exist() -> None:
    hidden_AD, weight_VD = random(1300, 4).requires_grad_(), random(99, 4).requires_grad_()
    largest: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            largest.extend(o.untyped_storage().nbytes() // 8 for o in (out,) if isinstance(o, Tensor))
            return out

    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x), Watch():
        logprobs_A, _ = chunked_logprobs(hidden_AD, Head(weight_VD), torch.zeros(1300, dtype=torch.int64), rows=100)
        logprobs_A.sum().backward()
    assert max(kept) <= hidden_AD.numel()
    assert max(largest) <= 101 * 99  # 13 chunks of 100, where all the logits are 1300 * 99


@pytest.mark.parametrize("rows", [1, 3, 7, 512])
@pytest.mark.parametrize("biased", [False, True])
def test_the_likeliest_token_is_that_of_the_full_logits(rows: int, biased: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(20, 6, generator=generator), torch.randn(11, 6, generator=generator)
    bias = 3 * torch.randn(11, generator=generator) if biased else None
    found = likeliest(hidden, Head(weight, bias, softcap=2.0), rows)
    assert found.equal(F.linear(hidden, weight, bias).argmax(-1))
    assert len(set(found.tolist())) > 3


def test_no_actions_have_no_logprobs() -> None:
    hidden_AD = torch.zeros(0, 4, requires_grad=True)
    logprobs_A, entropy_A = chunked_logprobs(hidden_AD, Head(torch.ones(5, 4)), torch.zeros(0, dtype=torch.int64))
    assert logprobs_A.tolist() == entropy_A.tolist() == []
    logprobs_A.sum().backward()
    assert hidden_AD.grad.shape == (0, 4)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("rows", [4, 512])
def test_the_entropy_of_the_likeliest_tokens(softcap: float | None, rows: int) -> None:
    """By its definition; it grows with their number, up to the entropy of all."""
    hidden_AD, head = random(11, 6), Head(random(9, 6, seed=1), random(9, seed=2), softcap)
    logits_AV = hidden_AD @ head.weight_VD.T + head.bias_V
    if softcap is not None:
        logits_AV = softcap * torch.tanh(logits_AV / softcap)
    before_A = torch.zeros(11, dtype=torch.float64)
    for top in range(1, 10):
        probs_AK = logits_AV.softmax(-1).sort(descending=True).values[:, :top]
        expected_A = torch.distributions.Categorical(probs=probs_AK).entropy()
        found_A = top_entropy(hidden_AD, head, top, rows)
        torch.testing.assert_close(found_A, expected_A)
        assert (found_A >= before_A - 1e-12).all()
        before_A = found_A
    torch.testing.assert_close(before_A, entropy(logits_AV))
    torch.testing.assert_close(top_entropy(hidden_AD, head, 99, rows), before_A)
    assert len(top_entropy(hidden_AD[:0], head, 3, rows)) == 0
