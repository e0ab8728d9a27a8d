"""Steps of our sft stage on whole texts: every token but the first is learned."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

from bench.ours.staged import recipe_of, step_through
from bench.pace import Pace, read_spec
from tutelage.config import SftStage
from tutelage.data.chat import Conversation
from tutelage.stages import SftPlan
from tutelage.stages.context import StageRun
from tutelage.stages.sft import SftTask
from tutelage.training import State


def main() -> None:
    pace, spec = Pace(), read_spec()
    stage = {
        "type": "sft",
        "source": {"type": "given"},
        "loss_on": "all",
        "sequences_per_step": len(spec["texts"]),
        "tokens_per_microbatch": spec["tokens_per_microbatch"],
        "lora": spec["lora"],
    }
    recipe = recipe_of(spec, stage, {})
    (planned,) = recipe.stage
    assert isinstance(planned, SftStage)
    texts = [Conversation(f"text-{i}", prompt=a, completion=b) for i, (a, b) in enumerate(spec["texts"])]
    plan = SftPlan(planned, texts)

    def make(run: StageRun) -> tuple[SftTask, State]:
        policy = run.load_policy()
        task = SftTask(plan, run, policy)
        pace.note(learned_tokens=sum(len(row.actions) for row in task.rows))
        return task, State(policy, planned.optimizer)

    step_through(pace, recipe, make)


if __name__ == "__main__":
    main()
