"""Guards in whole runs: numbers that are not finite, roll backs that survive kills, and a step computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.pipelines.test_resume import TIMES, lines
from tutelage.cli.replay import print_step
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, GuardError, NonFiniteError, RunFolderError
from tutelage.models import Policy, RewardModel
from tutelage.pipelines import replay_run, resume_run, run_recipe
from tutelage.training import Quiet
from tutelage.training.checkpoint import file_digest

LEARN = """
[[stage]]
name = "learn"
steps = 4
tokens_per_microbatch = 200
optimizer = {{ lr = 1e-3 }}
checkpoints = {{ every = 1, keep = 9 }}
{kind}
"""
KINDS = {
    "pretrain": """
type = "pretrain"
context = 16
tokens_per_step = 64
source = { type = "jsonl", path = "texts.jsonl" }
""",
    "sft": """
type = "sft"
sequences_per_step = 4
source = { type = "environment", environment = "sums" }
""",
    "reward-model": """
type = "reward-model"
keep = true
prompts_per_step = 3
source = { type = "jsonl", path = "judged.jsonl" }
""",
    "preference": """
type = "preference"
prompts_per_step = 3
source = { type = "jsonl", path = "judged.jsonl" }
""",
    "rl": """
type = "rl"
environment = "sums"
algorithm = { type = "ppo" }
rewards = [{ type = "regex", pattern = "[a-m]" }]
prompts_per_step = 3
completions_per_prompt = 2
sampling = { max_new_tokens = 4 }
""",
}
TEXTS = [{"text": "What is 12 + 30? Answer with just the number. 42" * 3}]
PAIRS = ("12 + 30", "no"), ("42", "7"), ("7", "8")
JUDGED = [{"prompt": "say", "chosen": good, "rejected": bad} for good, bad in PAIRS]


class Telling(Quiet):
    """Hears the notes, and dies after so many steps."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.left = dies_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def recipe_of(folder: Path, stages: str) -> Path:
    for name, rows in (("texts", TEXTS), ("judged", JUDGED)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = folder / "recipe.toml"
    for name in ("texts.jsonl", "judged.jsonl"):
        stages = stages.replace(name, str(folder / name))
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), stages))
    return path


def spoil(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Has the learner score the second action of each micro-batch with nan, once so many updates are done."""

    def spoiled(values_A: torch.Tensor, version: int) -> torch.Tensor:
        if version < after or not torch.is_grad_enabled():
            return values_A
        hole_A = torch.zeros_like(values_A)
        hole_A[1] = float("nan")
        return values_A + hole_A

    plain, scores = Policy.score_states, RewardModel.scores

    def score_states(self: Policy, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs_A, entropy_A = plain(self, *arguments)
        return spoiled(logprobs_A, self.version), entropy_A

    monkeypatch.setattr(Policy, "score_states", score_states)
    monkeypatch.setattr(RewardModel, "scores", lambda self, batch: spoiled(scores(self, batch), self.version))


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_stops_before_the_update_and_says_whose_fault_it_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_of(tmp_path, LEARN.format(kind=KINDS[kind])))
    spoil(monkeypatch, after=2)
    with pytest.raises(NonFiniteError) as stopped:
        run_recipe(recipe, tmp_path / "run", Quiet())
    stage = tmp_path / "run/stages/01-learn"
    term = "the score" if kind == "reward-model" else "the learner's log-probability"
    assert str(stopped.value).startswith(f"{term} is nan at sample ")
    assert str(stage / "failed-step-000003.json") in str(stopped.value)
    found = json.loads((stage / "failed-step-000003.json").read_text())
    kept = load_file(stage / "failed-step-000003.safetensors")
    place = 1
    assert found["term"] == term
    assert found["sample"] == found["microbatches"][0]["names"][int(kept["0/sequence_A"][place])]
    assert found["token"] == int(kept["0/tokens_N"][kept["0/action_A"][place]])
    assert kept["0/action_A"][place] - found["position"] >= 0
    assert [line["step"] for line in lines(tmp_path / "run/metrics.jsonl")] == [1, 2]
    assert sorted(path.name for path in (stage / "checkpoints").glob("step-*"))[-1] == "step-000002"
    (event,) = lines(tmp_path / "run/events.jsonl")
    assert (event["guard"], event["action"], event["step"]) == ("non_finite", "stop", 3)
    assert "guards.non_finite" in (tmp_path / "run/report.html").read_text()


MOVING = """
[[stage]]
name = "reinforce"
type = "rl"
environment = "sums"
algorithm = { type = "grpo", kl = 0.001 }
rewards = [{ type = "regex", pattern = "[a-m]" }]
steps = 7
prompts_per_step = 4
completions_per_prompt = 4
tokens_per_microbatch = 200
sampling = { max_new_tokens = 4 }
optimizer = { lr = 3e-3 }
checkpoints = { every = 2, keep = 2 }
guards = { kl = { limit = 0.2, steps = 2 }, slow_down = 0.2, credit = "off" }
"""


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind, without what a clock measured."""
    return {
        "metrics": [
            {key: value for key, value in line.items() if not key.endswith(TIMES)}
            for line in lines(folder / "metrics.jsonl")
        ],
        "samples": lines(folder / "samples.jsonl"),
        "events": lines(folder / "events.jsonl"),
        "model": file_digest(folder / "stages/01-reinforce/model/model.safetensors"),
    }


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that rolled back, beside its recipe."""
    folder = tmp_path_factory.mktemp("rolled")
    run_recipe(read_recipe(recipe_of(folder, MOVING)), folder / "run", Telling())
    return folder


def test_a_run_goes_back_before_the_step_that_went_too_far_and_on_at_a_lower_rate(rolled_back: Path) -> None:
    found = outcome(rolled_back / "run")
    events = found["events"]
    assert [(event["guard"], event["action"]) for event in events] == [("kl", "roll-back")] * len(events)
    assert 1 <= len(events) <= 3
    steps = [line["step"] for line in found["metrics"]]
    assert steps == list(range(1, 8))  # as if what was taken back had not been
    assert {line["step"] for line in found["samples"]} == set(steps)
    for line in found["metrics"]:
        shares = [event["lr_share"] for event in events if event["to"] < line["step"]]
        assert line["lr"] == pytest.approx(3e-3 * (shares[-1] if shares else 1.0))
    assert events[-1]["lr_share"] == pytest.approx(0.2 ** len(events))
    assert max(line["kl"] for line in found["metrics"][-2:]) <= 0.2 or len(events) == 3
    assert "rolled back to step" in (rolled_back / "run/report.html").read_text()


# How many steps are heard before the kill: before the roll back, right after it, and later.
@pytest.mark.parametrize("heard", [1, 2, 3, 5])
def test_killed_around_a_roll_back_and_resumed_is_as_if_nothing_had_been(
    heard: int, rolled_back: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(rolled_back / "recipe.toml")
    first = Telling(dies_after=outcome(rolled_back / "run")["events"][0]["step"] - 2 + heard)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "run", first)
    resume_run(tmp_path / "run", Telling())
    assert outcome(tmp_path / "run") == outcome(rolled_back / "run")


def test_roll_backs_are_counted_and_then_it_stops(rolled_back: Path, tmp_path: Path) -> None:
    limits = ["reinforce.guards.kl.limit=0.0", "reinforce.guards.rollbacks=2"]
    recipe = read_recipe(rolled_back / "recipe.toml", limits)
    with pytest.raises(GuardError, match=r"guards.kl: .* after 2 roll backs"):
        run_recipe(recipe, tmp_path / "run", Quiet())
    actions = [event["action"] for event in lines(tmp_path / "run/events.jsonl")]
    assert actions == ["roll-back", "roll-back", "stop"]
    with pytest.raises(GuardError):
        resume_run(tmp_path / "run", Quiet())  # it stays stopped
    allowed = read_recipe(rolled_back / "recipe.toml", ["reinforce.guards.kl=off"])
    told = Telling()
    run_recipe(allowed, tmp_path / "run", told)  # until the guard is changed: then it goes on where it was
    assert any("goes on after step" in note for note in told.notes)
    assert [line["step"] for line in lines(tmp_path / "run/metrics.jsonl")] == list(range(1, 8))


def test_what_is_not_finite_may_be_rolled_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS["sft"] + 'guards = { non_finite = "roll-back", rollbacks = 1 }'
    recipe = read_recipe(recipe_of(tmp_path, LEARN.format(kind=kind)))
    spoil(monkeypatch, after=2)
    with pytest.raises(GuardError, match="after 1 roll backs"):
        run_recipe(recipe, tmp_path / "run", Quiet())
    events = lines(tmp_path / "run/events.jsonl")
    assert [(event["action"], event.get("to")) for event in events] == [("roll-back", 1), ("stop", None)]


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_step_is_computed_again_to_the_last_bit(step: int, rolled_back: Path) -> None:
    """From the checkpoint before it, or from the beginning, over roll backs too."""
    found = replay_run(rolled_back / "run", step, None, print)
    assert found.replay is not None
    assert found.replay.checkpoint <= step - 1
    for name in ("loss", "grad_norm", "mismatch", "mismatch_max", "kl", "entropy", "reward", "lr", "credit"):
        assert found.replay.numbers.get(name) == found.recorded.get(name), name
    differences = [abs(token.difference) for own in found.replay.tokens.values() for token in own]
    assert max(differences) == pytest.approx(found.recorded["mismatch_max"], rel=1e-3)
    assert len(found.replay.samples) == 16


def test_a_step_is_printed_token_by_token(rolled_back: Path) -> None:
    console = Console(record=True, width=160)
    print_step(console, rolled_back / "run", 7, None, None)
    text = console.export_text()
    sample = next(line for line in lines(rolled_back / "run/samples.jsonl") if line["step"] == 7)
    assert f"{sample['prompt_id']}/0" in text
    assert f"reward {sample['reward']:g}" in text
    assert f"{sample['logprobs'][0]:.4f}" in text
    recorded = next(line for line in lines(rolled_back / "run/metrics.jsonl") if line["step"] == 7)
    assert f"{recorded['grad_norm']:.6g}" in text
    with pytest.raises(ConfigError, match="the step has"):
        print_step(console, rolled_back / "run", 7, None, "nobody/0")
    with pytest.raises(RunFolderError, match="there are those of 1 to 7"):
        replay_run(rolled_back / "run", 8, None, print)
    with pytest.raises(ConfigError, match="of this run: reinforce"):
        replay_run(rolled_back / "run", 7, "judge", print)


def test_of_a_step_that_failed_the_culprit_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(recipe_of(tmp_path, LEARN.format(kind=KINDS["rl"])))
    spoil(monkeypatch, after=2)
    with pytest.raises(NonFiniteError) as stopped:
        run_recipe(recipe, tmp_path / "run", Quiet())
    console = Console(record=True, width=300)
    print_step(console, tmp_path / "run", 3, None, None)
    text = console.export_text()
    assert "not applied: the learner's log-probability is nan at sample" in text
    assert str(stopped.value.found["sample"]) in text
