"""Steps of our rl stage, with GRPO where nothing else is asked: sampling, rewards, credit, packing, update, records."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

import sys

from bench.ours.staged import recipe_of, step_through
from bench.pace import Pace, read_spec
from tutelage.data.chat import render_prompt
from tutelage.engines import build_engine
from tutelage.rewards import RewardSuite
from tutelage.stages import plan_stage
from tutelage.stages.collect import Collector
from tutelage.stages.context import StageRun
from tutelage.stages.rl import first_state, load_learner
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import State


def main() -> None:
    pace, spec = Pace(), read_spec()
    stage = {
        "type": "rl",
        "environment": "given",
        "algorithm": spec.get("algorithm", {"type": "grpo", "kl": 0.0}),
        "prompts_per_step": spec["prompts_per_step"],
        "completions_per_prompt": spec["completions"],
        "tokens_per_microbatch": spec["tokens_per_microbatch"],
        "sampling": {"max_new_tokens": spec["new_tokens"]},
        **spec.get("stage", {}),
    }
    recipe = recipe_of(spec, stage, {"given": {"type": "bench.ours.given:Given", "file": sys.argv[1]}})
    plan = plan_stage(recipe.stage[0], recipe)
    assert isinstance(plan, RlPlan)
    with RewardSuite(plan.rewards) as suite:

        def make(run: StageRun) -> tuple[RlTask, State]:
            policy = load_learner(plan, run)
            engine = build_engine(recipe.engine, policy)
            if spec["fixed_length"]:
                engine.end_tokens = frozenset()  # every completion has its full length, as the peer's
            pace.note(prompt_tokens=sum(len(render_prompt(policy.tokenizer, prompt)) for prompt in plan.prompts))
            return RlTask(plan, run, Collector(plan, run, engine, suite)), first_state(plan, policy)

        step_through(pace, recipe, make)


if __name__ == "__main__":
    main()
