"""The loss of what is shown: of conversations in `sft`, of texts in `pretrain`."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from tutelage.algorithms import supervised_loss
from tutelage.models import Policy
from tutelage.types import Actions, Batch, Loss


def imitation_loss(policy: Policy, batch: Batch, states_AD: Tensor) -> Loss:
    """The cross-entropy of a micro-batch's actions, each times its field `advantages`.

    Args:
        states_AD: the hidden states in which the actions are taken.
    """
    logprobs_A, entropy_A = policy.score_states(states_AD, batch)
    loss = supervised_loss(
        Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=batch.fields["advantages"].to(logprobs_A.device),
            behaviour_A=logprobs_A.detach(),
            reference_A=None,
            sequence_A=batch.sequence_A.to(logprobs_A.device),
            sequences=batch.sequences,
        )
    )
    return replace(loss, terms={"the learner's log-probability": logprobs_A})
