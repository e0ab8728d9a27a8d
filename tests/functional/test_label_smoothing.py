"""Label smoothing beside torch's own, which sees all logits: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tutelage.functional.label_smoothing import uniform_gap
from tutelage.functional.logprobs import Head, chunked_logprobs


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_it_is_torchs(share: float, biased: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(7, 5, generator=generator)
    weight, bias = torch.randn(11, 5, generator=generator), torch.randn(11, generator=generator)
    targets = torch.randint(11, (7,), generator=generator)
    grads: list[list[torch.Tensor]] = []
    values: list[torch.Tensor] = []
    for ours in (True, False):
        inputs = [tensor.clone().requires_grad_() for tensor in (hidden, weight, *([bias] if biased else []))]
        head = Head(inputs[1], inputs[2] if biased else None)
        if ours:
            logprobs, _ = chunked_logprobs(inputs[0], head, targets)
            loss = (-logprobs + share * uniform_gap(inputs[0], head, targets)).sum()
        else:
            logits = F.linear(inputs[0], head.weight_VD, head.bias_V)
            loss = F.cross_entropy(logits, targets, label_smoothing=share, reduction="sum")
        loss.backward()
        values.append(loss.detach())
        grads.append([tensor.grad for tensor in inputs if tensor.grad is not None])
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    assert len(grads[0]) == 2 + biased
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_capped_head_is_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing: this model caps its logits"):
        uniform_gap(torch.zeros(1, 2), Head(torch.zeros(3, 2), softcap=30.0), torch.zeros(1, dtype=torch.int64))
