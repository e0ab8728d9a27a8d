"""The `preference` stage: every loss learns what was judged better, however the step is cut, and resumes as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipelines.parts import tiny_model_folder
from tests.stages.test_reward_model import write_judged
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import PREFERENCE_LOSSES, build_preference_loss
from tutelage.config import Optimizer, PreferenceStage, read_recipe
from tutelage.data import Judged, build_judged_source
from tutelage.errors import ConfigError, DataError
from tutelage.models import Policy
from tutelage.pipelines import resume_run, run_recipe
from tutelage.stages.judged import judged_rows
from tutelage.stages.preference_task import PreferenceTask, mismatched, score_answers, with_field
from tutelage.training import Quiet, State
from tutelage.types import Prompt

RECIPE = """
name = "prefers"
model = "{model}"

[[stage]]
name = "dpo"
type = "preference"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
epochs = 2
prompts_per_step = 8
optimizer = {{ lr = 3e-3 }}
checkpoints = {{ every = 3 }}
"""
TABLES: dict[str, dict[str, Any]] = {
    "ipo": {"beta": 0.1, "length_normalised": False},
    "sppo": {"beta": 0.02},
    "bco": {"beta": 0.1},
    "nca": {"beta": 0.1},
    "robust_dpo": {"beta": 0.1},
    "discopop": {"beta": 0.5},  # below 1 / 20 of its temperature it pulls the other way
}
SINGLE = [name for name, kind in PREFERENCE_LOSSES.items() if not kind.paired]


def write_recipe(folder: Path) -> Path:
    write_judged(folder / "train.jsonl", 60, 1)
    write_judged(folder / "test.jsonl", 40, 2)
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_model_folder(folder / "tiny"), folder=folder))
    return path


def write_labels(path: Path) -> None:
    """What unpaired losses read: each answer good or bad by itself."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    split = [
        {"prompt": row["prompt"], "completion": answer, "label": score > 2}
        for row in rows
        for answer, score in zip(row["answers"], row["scores"], strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, split)) + "\n")


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    path = folder / "recipe.toml"
    run_recipe(read_recipe(path, overrides), folder / "run", Quiet())
    return json.loads((folder / "run/stages/01-dpo/result.json").read_text())


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_every_loss_learns_what_was_judged_better(name: str, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    if name in SINGLE:
        write_labels(tmp_path / "train.jsonl")
    table = {"type": name, **TABLES.get(name, {})}
    result = run(tmp_path, *(f"dpo.loss.{key}={json.dumps(value)}" for key, value in table.items()))
    assert result["agreement"]["accuracy"]["mean"] > 0.7, result["agreement"]
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["margin"] > metrics[0]["margin"]
    assert metrics[-1]["accuracy"] > 0.6


def test_a_threshold_tells_good_answers_from_bad_ones(tmp_path: Path) -> None:
    """The rankings as they are: for KTO more than two sevens are good."""
    write_recipe(tmp_path)
    result = run(tmp_path, "dpo.loss.type=kto", "dpo.good_above=2")
    assert result["agreement"]["accuracy"]["mean"] > 0.7, result["agreement"]


def test_turned_judgements_teach_the_contrary(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    write_judged(tmp_path / "train.jsonl", 60, 1, flipped=True)
    assert run(tmp_path)["agreement"]["accuracy"]["mean"] < 0.35


def test_dpo_begins_at_log_two_with_no_margin(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    run(tmp_path, "compute=fp32")
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2.0), abs=1e-5)
    assert first["margin"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", ["dpo", "kto", "bco", "aot", "beta_dpo", "orpo"])
def test_a_step_in_many_micro_batches_is_the_step_in_one(name: str, tmp_path: Path) -> None:
    """Loss, metrics and gradients, also where the loss of one answer reads others of the step."""
    write_judged(tmp_path / "train.jsonl", 12, 1)
    if name in SINGLE:
        write_labels(tmp_path / "train.jsonl")
    judged = build_judged_source({"type": "jsonl", "path": str(tmp_path / "train.jsonl")}, "source").load_judged()
    loss = build_preference_loss({"type": name}, "loss")
    found: list[tuple[dict[str, float], dict[str, torch.Tensor]]] = []
    for budget in (4096, 60):
        policy = Policy(tiny_model(), tiny_tokenizer(), torch.float32)
        rows = [judged_rows(policy.tokenizer, one, i, 60, "source") for i, one in enumerate(judged)]
        others = mismatched(rows, 60) if loss.needs_mismatched else []
        if loss.needs_reference:
            reference = Policy(tiny_model(seed=1), tiny_tokenizer(), torch.float32)
            rows, others = (
                with_field(some, "reference", score_answers(reference, [r for part in some for r in part], 4096))
                for some in (rows, others)
            )
        stage = PreferenceStage(
            type="preference", name="p", source={}, prompts_per_step=len(rows), tokens_per_microbatch=budget
        )
        task = PreferenceTask(stage, loss, 0, rows, others, 1)
        state = State(policy, Optimizer(lr=1e-3, max_grad_norm=1e9), dials=loss.dials)
        (batches,) = task.minibatches(state)
        assert (len(batches) > 3) == (budget == 60)
        kept: dict[str, torch.Tensor] = {}
        state.before_change = lambda policy=policy, kept=kept: kept.update(
            {key: value.grad.clone() for key, value in policy.masters.items()}
        )
        numbers = task.update(state, batches)
        found.append(({**numbers, **task.metrics()}, kept))
    (whole, whole_grads), (cut, cut_grads) = found
    assert whole.keys() == cut.keys()
    for key, value in whole.items():
        assert cut[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    for key, grad in whole_grads.items():
        torch.testing.assert_close(cut_grads[key], grad, rtol=1e-3, atol=1e-5)


def test_dpo_of_packed_pairs_is_dpo_of_sequences() -> None:
    """Against plain forwards of one sequence at a time, with a reference that has moved away: values and gradients."""
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.float32)
    reference = Policy(tiny_model(seed=1), tiny_tokenizer(), torch.float32)
    judged = [
        Judged(Prompt("a", text="What is"), (" the answer", " 42"), (1.0, 0.0)),
        Judged(Prompt("b", text="Answer"), (" with", " just the number"), (1.0, 0.0)),
    ]
    rows = [judged_rows(policy.tokenizer, one, i, 60, "source") for i, one in enumerate(judged)]
    flat = [row for pair in rows for row in pair]
    rows = with_field(rows, "reference", score_answers(reference, flat, 4096))
    loss = build_preference_loss({"type": "dpo"}, "loss")
    stage = PreferenceStage(type="preference", name="p", source={}, prompts_per_step=2)
    task = PreferenceTask(stage, loss, 0, rows, [], 1)
    ((batch,),) = task.minibatches(State(policy, Optimizer()))
    (of_batch,) = task.loss(policy, batch)
    of_batch.total.backward()
    packed = {name: weight.grad.clone() for name, weight in policy.module.named_parameters()}
    policy.module.zero_grad()

    def alone(model: Policy, index: int) -> torch.Tensor:
        row = flat[index]
        tokens = torch.tensor([row.context + row.tokens])
        logprobs_TV = model.module(input_ids=tokens).logits[0, :-1].log_softmax(-1)
        return logprobs_TV.gather(1, tokens[0, 1:, None])[len(row.context) - 1 :].sum()

    for model in (policy, reference):
        model.module.set_attn_implementation("eager")
    of = [torch.stack([alone(model, i) for i in which]) for model in (policy, reference) for which in ((0, 2), (1, 3))]
    margin_P = 0.1 * ((of[0] - of[1]) - (of[2] - of[3]))
    assert (of[0] - of[2]).abs().min() > 0.1  # else the reference could be forgotten
    expected = -torch.nn.functional.logsigmoid(margin_P).sum()
    torch.testing.assert_close(of_batch.total, expected)
    assert (of_batch.unit, batch.prompts) == ("prompts", 2)
    expected.backward()
    for name, weight in policy.module.named_parameters():
        torch.testing.assert_close(packed[name], weight.grad, rtol=1e-4, atol=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Killed after a step, with the reference's scores on disk: beta-DPO also carries a number from step to step."""

    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 7:
                raise KeyboardInterrupt

    path = write_recipe(tmp_path)
    recipe = read_recipe(path, ["dpo.loss.type=beta_dpo", "compute=fp32"])
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    one, other = ((tmp_path / name / "stages/01-dpo/model/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with pytest.raises(DataError, match=r"dpo\.source: .* must lie between 0 \(bad\) and 1 \(good\); take a loss of"):
        run(tmp_path, "dpo.loss.type=kto")
    with pytest.raises(ConfigError, match=r"dpo\.good_above: 'dpo' compares answers and reads no threshold"):
        run(tmp_path, "dpo.good_above=2")
    write_labels(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match=r"dpo\.source: .* no two answers that were judged apart.* type = 'kto'"):
        run(tmp_path)
