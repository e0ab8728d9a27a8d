"""Losses of preference pairs: one number for each pair, to be minimised, not yet reduced.

P: pairs. What is compared are log-probabilities of whole completions, summed over their tokens.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dpo(
    chosen_P: Tensor, rejected_P: Tensor, reference_chosen_P: Tensor, reference_rejected_P: Tensor, beta: float = 0.1
) -> Tensor:
    """-log sigmoid(beta (log policy / reference of the chosen - the same of the rejected)), in nats.

    DPO (Rafailov et al., 2305.18290), equation 7. Where policy and reference agree it is log 2. Its gradient in the
    chosen's log-probability is -beta sigmoid(-margin), and lies within -beta and 0 however large the margin is.

    Args:
        chosen_P, rejected_P: [P] log-probability of each completion under the policy; carry the gradient.
        reference_chosen_P, reference_rejected_P: [P] the same under the frozen reference.
        beta: how strongly the policy is held to the reference; the paper's experiments have 0.1
            unless noted (appendix B).
    """
    shapes = {values.shape for values in (chosen_P, rejected_P, reference_chosen_P, reference_rejected_P)}
    assert len(shapes) == 1, shapes
    margin_P = beta * ((chosen_P - reference_chosen_P) - (rejected_P - reference_rejected_P))
    return -F.logsigmoid(margin_P)
