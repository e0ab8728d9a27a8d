"""Supervised learning: the cross-entropy of the tokens that a source shows."""

from __future__ import annotations

from tutelage.algorithms.base import action_sums
from tutelage.functional import policy_losses, reductions
from tutelage.types import Actions, Loss


def supervised_loss(actions: Actions) -> Loss:
    """Sum over tokens of -w log policy, w the token's credit: 1 for imitation. Per token, in nats.

    Every token counts the same, in a long answer and in a short one, as in GPT-3's and InstructGPT's
    (2203.02155) training. Behaviour and reference are not read.
    """
    terms_A = policy_losses.cross_entropy(actions.logprobs_A, actions.advantages_A)
    return Loss(*reductions.token_sum(terms_A), action_sums(entropy=actions.entropy_A))
