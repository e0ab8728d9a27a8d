"""The `rl` stage: its plan, and the run of it. What it trains is in rl_task."""

from __future__ import annotations

from tutelage.config import RlGuards
from tutelage.engines import build_engine
from tutelage.models import Policy, RewardModel, ValueModel, context_length
from tutelage.rewards import RewardSuite
from tutelage.stages.collect import Collector
from tutelage.stages.context import Result, StageRun
from tutelage.stages.inspection import Inspection
from tutelage.stages.kept_weights import copies, take
from tutelage.stages.model_rewards import with_models
from tutelage.stages.pretraining import Texts
from tutelage.stages.rl_plan import RlPlan, text_rows
from tutelage.stages.rl_task import RlTask
from tutelage.training import State


def run_rl(plan: RlPlan, run: StageRun) -> Result:
    """Trains the policy by reinforcement and saves it."""
    state = run.begin(loaded_state(plan, run))
    policy = state.policy
    engine = build_engine(run.recipe.engine, policy)
    with RewardSuite(with_models(plan.rewards, run, state), plan.stage.reward_timeout) as suite:
        collector = Collector(plan, run, engine, suite, state.memory)
        inspection = Inspection(
            plan.stage.record, run.folder / "inspect", plan.total_steps, plan.algorithm, policy.tokenizer
        )
        task = RlTask(plan, run, collector, texts_of(plan, run, policy), inspection)
        run.fit(task, state, plan.stage.checkpoints, guards_of(plan))
    take(state, "average")
    out = {"quarantined": len(state.memory.quarantined)} if state.memory.quarantined else {}
    return {"type": "rl", "steps": state.step, **out, "saved": run.save_model(policy.save)}


def guards_of(plan: RlPlan) -> RlGuards:
    """The stage's guards. The KL is watched to where the policy began: a teacher may be far away, and is meant to be.

    Without one to watch, no beginning is saved for its sake.
    """
    guards = plan.stage.guards
    if plan.algorithm.needs_reference and plan.stage.reference.model is None:
        return guards
    return guards.model_copy(update={"kl": guards.kl.model_copy(update={"action": "off"})})


def texts_of(plan: RlPlan, run: StageRun, policy: Policy) -> Texts | None:
    """What is shown beside the samples, where the stage has it."""
    settings = plan.stage.pretraining
    if settings is None:
        return None
    rows = text_rows(plan, policy.tokenizer, context_length(policy.module.config))
    return Texts(settings, rows, plan.stage.tokens_per_microbatch, run.seed)


def loaded_state(plan: RlPlan, run: StageRun) -> State:
    """What the stage begins with, its models loaded."""
    policy = load_learner(plan, run)
    critic = plan.algorithm.needs_critic
    start = None if critic is None or critic.start is None else run.load_reward_model(critic.start)
    return first_state(plan, policy, start, load_teacher(plan, run))


def load_learner(plan: RlPlan, run: StageRun) -> Policy:
    """The policy that the stage begins with, as the algorithm's updates want it."""
    if plan.algorithm.trust_region is None:
        return run.load_policy()
    policy = run.load_policy("fp32")
    policy.fused = False  # the fused passes have no second derivatives
    return policy


def load_teacher(plan: RlPlan, run: StageRun) -> Policy | None:
    """The model that the stage names as its reference."""
    name = plan.stage.reference.model
    return None if name is None else run.load_policy(model=name).freeze()


def first_state(plan: RlPlan, policy: Policy, start: RewardModel | None = None, teacher: Policy | None = None) -> State:
    """The policy with all that the algorithm wants beside it: a critic, an anchor of its own, dials, an average.

    Args:
        start: what a critic with a body of its own begins as; None: as the policy.
        teacher: a model that is the reference; None: the policy as it is now.
    """
    algorithm, moves = plan.algorithm, plan.stage.reference.moves
    critic, reference = algorithm.needs_critic, teacher
    if plan.holds_reference and teacher is None:
        reference = policy.twin() if moves else policy.frozen_copy()  # one that moves keeps fp32 masters
    state = State(
        policy,
        plan.stage.optimizer,
        critic=None if critic is None else ValueModel(policy, critic.kind == "model", start),
        critic_lr=None if critic is None else critic.lr,
        reference=reference,
        moving=moves,
        dials=algorithm.dials,
        buffers={} if plan.stage.average is None else copies(policy, "average"),
    )
    state.memory.limit = plan.stage.replay
    return state
