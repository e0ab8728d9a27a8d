"""What the `rl` stage trains: groups -> credit -> packed batches -> loss -> update, whatever the algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from tutelage import interrupts
from tutelage.algorithms import Distillation
from tutelage.data.packing import Row, pack
from tutelage.functional import kl
from tutelage.functional.corrections import importance_weights
from tutelage.functional.value_losses import explained_variance
from tutelage.models import Policy
from tutelage.stages.collect import Collector
from tutelage.stages.context import StageRun
from tutelage.stages.experience import credit_with_reward, credited, experience_of, rows_of, scaled, turns, with_scores
from tutelage.stages.inspection import Inspection
from tutelage.stages.kept_weights import blend
from tutelage.stages.pretraining import Texts
from tutelage.stages.rl_plan import RlPlan
from tutelage.training import State, trust_region_update, update
from tutelage.training.occupied import memory_gib
from tutelage.types import Actions, Batch, Group, Loss


class RlTask:
    """What `fit` trains: a policy against rewards on its own samples."""

    def __init__(
        self,
        plan: RlPlan,
        run: StageRun,
        collector: Collector,
        texts: Texts | None = None,
        inspection: Inspection | None = None,
    ) -> None:
        self.plan, self.run, self.stage, self.algorithm = plan, run, plan.stage, plan.algorithm
        self.collector = collector
        self.total_steps = plan.stage.steps
        self._texts, self._inspection = texts, inspection
        self._state: State  # of the step under way
        self._learns = {"policy", "critic"}
        self._metrics: dict[str, float] = {}
        self._began = self._learning_since = 0.0

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """Rolls out, scores, credits; then the micro-batches of every update of the step."""
        self._state, self._began = state, perf_counter()
        with interrupts.at_once():  # nothing of the state has changed yet
            fresh = self.collector.collect(state.policy, state.step)
            groups = [*fresh, *state.memory.groups]
            greedy_P = self.collector.greedy(state.policy, groups, state.step) if self.algorithm.needs_greedy else None
        state.memory.add(fresh)
        self.collector.remember()
        self._metrics, self._learning_since = self.collector.metrics, perf_counter()
        self._metrics["generate_gib"] = memory_gib()
        rows = self._credited(groups, greedy_P, len(fresh))
        if self._inspection is not None:
            rows = self._inspection.begin(state.step + 1, groups, rows)
        parts = self.stage.updates_per_epoch
        places = [row.group * parts // len(groups) for row in rows]  # whole groups, in as many parts
        updates = [self._packed([r for r, at in zip(rows, places, strict=True) if at == part]) for part in range(parts)]
        updates = [batches for batches in updates if batches]
        whole = [batch for batches in updates for batch in batches]
        for number, (batches, learns) in enumerate(
            turns(self.algorithm, state.step, whole, updates * self.stage.epochs)
        ):
            self._learns = learns
            shown = self._texts.batches(state.step, number) if self._texts and "policy" in learns else []
            yield [*batches, *shown]

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        """By gradient, or under a trust region where the algorithm has one."""
        region = self.algorithm.trust_region
        if region is None or "policy" not in self._learns:
            return update(state, batches, self.loss, self.total_steps)
        return trust_region_update(state, batches, self.loss, self._divergence, region)

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        """The algorithm's loss, with the gap between sampler and learner beside it, and the critic's."""
        if batch.shown and self._texts is not None:
            return (self._texts.loss(policy, batch),)
        state, critic = self._state, self.algorithm.needs_critic
        learning = "policy" in self._learns
        with torch.set_grad_enabled(torch.is_grad_enabled() and learning):
            states_AD = policy.states(batch)
            actions = self._actions(policy, batch, states_AD)
        if learning and self._inspection is not None:
            self._inspection.see(batch, actions)
        losses = [self._policy_loss(actions, batch)] if learning else []
        if critic is not None and state.critic is not None and "critic" in self._learns:
            values_A = state.critic.values(batch, states_AD)
            losses.append(replace(critic.loss(actions.with_values(values_A)), terms={"the critic's value": values_A}))
        return losses

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        """Turns the algorithm's dials, writes down what was followed, and moves the reference."""
        state.dials = {**state.dials, **self.algorithm.turned(state.dials, metrics)}
        if self._inspection is not None:
            self._inspection.end(self.stage.name, state.step)
        if self.stage.average is not None:
            blend(state, "average", self.stage.average)
        moves, reference = self.stage.reference, state.reference
        if reference is None or not moves.moves:
            return
        state.before_change()
        if moves.ema is not None:
            reference.follow(state.policy, moves.ema)
        elif moves.every is not None and state.step % moves.every == 0:
            reference.follow(state.policy, 0.0)

    def metrics(self) -> Mapping[str, float]:
        now, numbers = perf_counter(), self._metrics
        learning = now - self._learning_since
        accounted = numbers["generate_seconds"] + numbers["reward_seconds"] + learning
        return {**numbers, "learn_seconds": learning, "overhead_seconds": now - self._began - accounted}

    def _credited(self, groups: Sequence[Group], greedy_P: Tensor | None, fresh: int) -> list[Row]:
        """The step's rows with their credit, and with what the losses will read beside it.

        Args:
            fresh: how many groups are of this step; those after them are learned from again.
        """
        rows = rows_of(groups, fresh)
        self._metrics["skipped"] = 0.0
        if not any(row.tokens for row in rows):
            return []  # none of the step's answers could be rewarded, or all are empty
        if self.plan.credit_reads_scores:
            rows = self._scored(rows)
        earned = experience_of(groups, rows, greedy_P)
        experience = self.algorithm.penalised(earned)
        credit = self.algorithm.credit(scaled(experience) if self.stage.scale_rewards else experience)
        if experience.values_A is not None and credit.returns_A is not None:
            explained = explained_variance(experience.values_A, credit.returns_A)
            self._metrics["explained_variance"] = explained.item()
        if not isinstance(self.algorithm, Distillation):  # whose credit is the teacher's
            agreement = credit_with_reward(earned, credit.advantages_A)
            self._metrics |= {} if agreement is None else {"credit": agreement}
        rows = credited(rows, credit, self.algorithm)
        self._metrics["skipped"] = _skipped_share(rows)
        return rows if self.plan.credit_reads_scores else self._scored(rows)

    def _packed(self, rows: Sequence[Row]) -> list[Batch]:
        return pack(rows, self.stage.tokens_per_microbatch, self.algorithm.compares)

    def _actions(self, policy: Policy, batch: Batch, states_AD: Tensor) -> Actions:
        """What the losses see of a micro-batch, but for the critic's values."""
        bonus = self.algorithm.entropy_bonus > 0.0
        logprobs_A, entropy_A = policy.score_states(states_AD, batch, self.stage.sampling, bonus)
        field = {name: values_A.to(logprobs_A.device) for name, values_A in batch.fields.items()}
        # On-policy the learner's own log-probabilities are the denominator: the ratio is 1, its gradient is not.
        learner_A = field.get("behaviour", logprobs_A.detach())
        return Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=field["advantages"] * self._weights(learner_A, field["sampler"]),
            behaviour_A=field["sampler"] if self.stage.ratio_to == "sampler" else learner_A,
            reference_A=field.get("reference"),
            sequence_A=batch.sequence_A.to(logprobs_A.device),
            sequences=batch.sequences,
            predicted_A=field.get("predicted"),
            returns_A=field.get("returns"),
            rewards_A=field["rewards"],
            expert_A=field["expert"].bool() if "expert" in field else None,
            kl_A=self._exact_kl(policy, batch, states_AD),
            dials=self._state.dials,
        )

    def _policy_loss(self, actions: Actions, batch: Batch) -> Loss:
        loss = self.algorithm.loss(actions)
        learner_A = batch.fields.get("behaviour", actions.logprobs_A.detach())
        gap_A = (learner_A - batch.fields["sampler"].to(learner_A.device)).abs()
        for name in ("expert", "replayed"):  # nobody sampled those, or an older policy did
            if name in batch.fields:
                gap_A = gap_A.masked_fill(batch.fields[name].bool().to(gap_A.device), 0.0)
        named = {"the learner's log-probability": actions.logprobs_A, "the entropy": actions.entropy_A}
        return replace(
            loss, metrics={**loss.metrics, "mismatch": gap_A.sum(), "mismatch_max": gap_A.max()}, terms=named
        )

    def _weights(self, learner_A: Tensor, sampler_A: Tensor) -> Tensor | float:
        correction = self.stage.correction
        if correction.kind == "none":
            return 1.0
        return importance_weights(learner_A, sampler_A, correction.kind, correction.least, correction.most)

    @torch.no_grad()
    def _scored(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with what must be known before the policy moves: its log-probabilities, the reference's, values."""
        own = self.plan.scores_itself
        if not own and not self.algorithm.needs_reference:
            return list(rows)
        packed = self._packed(rows)
        batches, silent = [one for one in packed if one.acted], [one for one in packed if not one.acted]
        scores = [self._learners(batch) if own else {} for batch in batches]
        if self.algorithm.needs_reference:
            with self._reference() as reference:
                for batch, named in zip(batches, scores, strict=True):
                    named["reference"] = reference.score(batch, self.stage.sampling)[0]
        nothing = {name: torch.zeros(0) for name in (scores[0] if scores else ())}
        return with_scores(rows, [*batches, *silent], [*scores, *([nothing] * len(silent))])

    def _learners(self, batch: Batch) -> dict[str, Tensor]:
        """The policy's log-probabilities of a micro-batch, and the critic's values."""
        state = self._state
        states_AD = state.policy.states(batch)
        named = {"behaviour": state.policy.score_states(states_AD, batch, self.stage.sampling)[0]}
        if state.critic is not None:
            named["predicted"] = state.critic.values(batch, states_AD)
        return named

    def _reference(self) -> AbstractContextManager[Policy]:
        """The anchor: a model of its own, or else the policy with its adapter switched off."""
        held = self._state.reference
        return self._state.policy.without_adapter() if held is None else nullcontext(held)

    def _divergence(self, policy: Policy, other: Policy | None, batch: Batch) -> Tensor:
        """[A] KL of each action's distribution, from that of another policy, or from its own, detached."""
        sampling = self.stage.sampling
        logits_AV = policy.logits(policy.states(batch), sampling)
        if other is None:
            return kl.exact(logits_AV.detach(), logits_AV)
        return kl.exact(other.logits(other.states(batch), sampling), logits_AV)

    def _exact_kl(self, policy: Policy, batch: Batch, states_AD: Tensor) -> Tensor | None:
        """[A] KL(policy || reference) of each action's distribution, with its gradient, where it is asked for."""
        reference = self._state.reference
        if reference is None or self.algorithm.kl_estimator != "exact":
            return None
        with torch.no_grad():
            anchor_AV = reference.logits(reference.states(batch), self.stage.sampling)
        return kl.exact(policy.logits(states_AD, self.stage.sampling), anchor_AV)


def _skipped_share(rows: Sequence[Row]) -> float:
    """Of the rewarded tokens, those that are not computed."""
    return sum(len(row.tokens) for row in rows if row.skipped) / max(1, sum(len(row.tokens) for row in rows))
