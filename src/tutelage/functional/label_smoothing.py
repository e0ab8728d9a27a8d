"""Label smoothing without the logits of the whole vocabulary."""

from __future__ import annotations

from torch import Tensor

from tutelage.functional.logprobs import Head


def uniform_gap(hidden_AD: Tensor, head: Head, targets_A: Tensor) -> Tensor:
    """[A] the cross-entropy with the uniform distribution, less that with the target: what smoothing adds, per share.

    Szegedy et al., 2016 (1512.00567): (1 - e) * -log p(target) + e * mean over v of -log p(v). The difference of both
    terms is the target's logit less the mean logit, and the mean logit is that of the mean row of the head.

    Raises:
        ValueError: the head has a soft cap, under which the mean of the logits is no logit of the mean.
    """
    assert targets_A.shape == hidden_AD.shape[:1], (targets_A.shape, hidden_AD.shape)
    if head.softcap is not None:
        raise ValueError("label_smoothing: this model caps its logits, so the mean of them is not at hand; set it to 0")
    rows_AD = head.weight_VD[targets_A] - head.weight_VD.mean(0)
    gap_A = (hidden_AD.float() * rows_AD.float()).sum(1)
    return gap_A if head.bias_V is None else gap_A + (head.bias_V[targets_A] - head.bias_V.mean()).float()
