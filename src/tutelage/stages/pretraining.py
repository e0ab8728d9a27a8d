"""Texts whose likelihood is raised beside the policy's own objective, in the same updates: PPO-ptx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutelage.config import Pretraining
from tutelage.data.packing import Row, pack
from tutelage.functional import policy_losses
from tutelage.models import Policy
from tutelage.rollouts import places_of_step
from tutelage.seeds import derive_seed
from tutelage.types import Batch, Loss


class Texts:
    """The rows of a stage's `pretraining`, some for each update, in an order of their own."""

    def __init__(self, settings: Pretraining, rows: Sequence[Row], budget: int, seed: int) -> None:
        self.settings, self.rows, self.budget, self.seed = settings, rows, budget, seed

    def batches(self, step: int, update: int) -> list[Batch]:
        """The micro-batches of an update, marked as shown."""
        seed = derive_seed(self.seed, "pretraining", update)
        places = places_of_step(len(self.rows), step, self.settings.sequences_per_update, seed)
        return [replace(batch, shown=True) for batch in pack([self.rows[i] for i in places], self.budget)]

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The weighted cross-entropy, averaged over the tokens of all texts of the update."""
        logprobs_A, _ = policy.score(batch)
        terms_A = policy_losses.cross_entropy(logprobs_A, batch.fields["advantages"].to(logprobs_A.device))
        metrics = {"pretraining_loss": terms_A.detach().sum(dtype=logprobs_A.dtype)}
        named = {"the learner's log-probability of a shown text": logprobs_A}
        return Loss(self.settings.weight * terms_A.sum(), "shown", metrics, terms=named)
