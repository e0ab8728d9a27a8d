"""The fused forward: each kernel against plain torch, values and gradients; the whole against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.test_packed_forward import CHANGES, alone, gradients, random_rows, reference_stays
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage import kernels
from tutelage.data.packing import pack
from tutelage.models import Policy, fused
from tutelage.models.lean import FAMILIES

pytestmark = pytest.mark.skipif(not kernels.kernels_ready(), reason="no compiled kernels on this machine")


def wide_policy(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Policy:
    model = tiny_model(family, **{**CHANGES.get(family, {}), "head_dim": 32, **changes})
    return Policy(model, tiny_tokenizer(), dtype)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2).requires_grad_()


def same(ours: Tensor | tuple[Tensor, ...], plain: Tensor | tuple[Tensor, ...], inputs: list[Tensor]) -> None:
    """Values, and the gradients of a random weighting of them."""
    ours, plain = ((x,) if isinstance(x, Tensor) else x for x in (ours, plain))
    for mine, want in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, want, atol=2e-6, rtol=2e-6)
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i, x in enumerate(plain)]
    mine, want = (
        torch.autograd.grad(
            sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)), inputs, retain_graph=True
        )
        for outputs in (ours, plain)
    )
    for a, b in zip(mine, want, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_norm() -> None:
    x, weight_D = numbers(37, 48), numbers(48, seed=1)
    same(fused._Norm.apply(x, weight_D, 1e-3), F.rms_norm(x, (48,), weight_D, 1e-3), [x, weight_D])


def test_norm_of_the_residual_sum() -> None:
    x, added, weight_D = numbers(37, 48), numbers(37, 48, seed=2), numbers(48, seed=1)
    plain = x + added, F.rms_norm(x + added, (48,), weight_D, 1e-3)
    same(fused._AddNorm.apply(x, added, weight_D, 1e-3), plain, [x, added, weight_D])
    for only in range(2):  # the gradient comes by one way alone
        same(fused._AddNorm.apply(x, added, weight_D, 1e-3)[only], plain[only], [x, added])


def test_rotation() -> None:
    x_NHE, angle_NE = numbers(11, 3, 64), numbers(11, 64, seed=1).detach()
    cos_NE, sin_NE = angle_NE.cos(), angle_NE.sin()  # the halves of a head may have angles of their own
    turned = torch.cat((-x_NHE[..., 32:], x_NHE[..., :32]), -1)
    same(fused._Rotate.apply(x_NHE, cos_NE, sin_NE), x_NHE * cos_NE[:, None] + turned * sin_NE[:, None], [x_NHE])


def test_gated_down() -> None:
    gate_NF, up_NF, down_DF = numbers(13, 32), numbers(13, 32, seed=1), numbers(16, 32, seed=2)
    with torch.no_grad():
        gate_NF[0, :4] = torch.tensor([100.0, -100.0, 0.0, 30.0])
    plain = (F.silu(gate_NF) * up_NF) @ down_DF.T
    same(fused._GatedDown.apply(gate_NF, up_NF, down_DF) / 64, plain / 64, [gate_NF, up_NF, down_DF])


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_packed_rows_score_and_learn_as_transformers_alone(family: str, threads: int, checkpointed: bool) -> None:
    policy, rows = wide_policy(family), random_rows()
    assert policy.fused
    if checkpointed:
        policy.checkpoint_activations()
    weights = torch.linspace(-1, 1, sum(len(row.actions) for row in rows))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        packed_A = torch.cat([policy.score(batch)[0] for batch in pack(rows, 60)])
        ours = gradients(policy, packed_A @ weights)
    finally:
        torch.set_num_threads(before)
    policy.fused = policy.checkpointed = False
    alone_A = torch.cat([alone(policy, row) for row in rows])
    torch.testing.assert_close(packed_A, alone_A, atol=2e-5, rtol=1e-5)
    for mine, reference in zip(ours, gradients(policy, alone_A @ weights), strict=True):
        assert (mine - reference).abs().max() <= 1e-5 * max(1.0, reference.abs().max().item())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_in_bf16_it_is_no_further_from_fp32_than_transformers(family: str) -> None:
    exact, rounded = wide_policy(family), wide_policy(family, torch.bfloat16)
    (batch,) = pack(random_rows(), 10_000)
    want_A = exact.score(batch)[0]
    fused_A = rounded.score(batch)[0]
    rounded.fused = False
    plain_A = rounded.score(batch)[0]
    ours, theirs = ((x - want_A).abs().mean().item() for x in (fused_A, plain_A))
    assert 0 < ours < 1.5 * theirs


def test_recomputed_layers_keep_less() -> None:
    kept = []
    for checkpointed in (False, True):
        policy = wide_policy("llama", num_hidden_layers=4)
        if checkpointed:
            policy.checkpoint_activations()
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            policy.score(pack(random_rows(), 10_000)[0])
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_a_frozen_copy_is_fused_and_apart() -> None:
    policy = wide_policy("qwen3")
    assert policy.frozen_copy().fused
    reference_stays(policy)


def test_models_it_was_not_written_for_and_compiled_layers_go_through_transformers() -> None:
    assert not Policy(tiny_model("llama", head_dim=8), tiny_tokenizer(), torch.float32).fused
    assert not Policy(tiny_model("gemma2", head_dim=32), tiny_tokenizer(), torch.float32).fused
    policy = wide_policy("llama")
    policy.compile_layers()
    assert not policy.fused
