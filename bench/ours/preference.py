"""Steps of our preference stage, with DPO: the reference's log-probabilities are computed before the first one."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

from bench.ours.staged import recipe_of, step_through
from bench.pace import Pace, read_spec
from tutelage.algorithms import build_preference_loss
from tutelage.config import PreferenceStage
from tutelage.data.preferences import Judged
from tutelage.models import context_length
from tutelage.stages.context import StageRun
from tutelage.stages.judged import rows_of_prompts
from tutelage.stages.preference_task import PreferenceTask, score_answers, with_field
from tutelage.training import State
from tutelage.types import Prompt


def main() -> None:
    pace, spec = Pace(), read_spec()
    stage = {
        "type": "preference",
        "source": {"type": "given"},
        "prompts_per_step": len(spec["pairs"]),
        "tokens_per_microbatch": spec["tokens_per_microbatch"],
    }
    recipe = recipe_of(spec, stage, {})
    (planned,) = recipe.stage
    assert isinstance(planned, PreferenceStage)
    loss = build_preference_loss(planned.loss, "loss")
    pairs = [
        Judged(Prompt(str(i), text=text), tuple(sides), (1.0, 0.0)) for i, (text, *sides) in enumerate(spec["pairs"])
    ]

    def make(run: StageRun) -> tuple[PreferenceTask, State]:
        policy = run.load_policy()
        rows = rows_of_prompts(planned, pairs, policy.tokenizer, context_length(policy.module.config), "source")
        flat = [row for pair in rows for row in pair]
        pace.note(learned_tokens=sum(len(row.tokens) for row in flat))
        rows = with_field(rows, "reference", score_answers(policy, flat, planned.tokens_per_microbatch))
        task = PreferenceTask(planned, loss, run.seed, rows, [], planned.steps or 1)
        return task, State(policy, planned.optimizer)

    step_through(pace, recipe, make)


if __name__ == "__main__":
    main()
