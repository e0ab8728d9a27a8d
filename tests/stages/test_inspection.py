"""What the inspector is told of single tokens: the update's numbers and each token's fate; and it changes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.test_rl_task import begin, step
from tutelage.algorithms import Algorithm, Cispo, Dapo, Grpo, HighEntropy, Ppo, Reinforce
from tutelage.config import Correction, Record
from tutelage.stages.inspection import FATES, Inspection, pieces
from tutelage.stages.rl_task import RlTask
from tutelage.training import State


def followed(folder: Path, algorithm: Algorithm, record: Record | None = None, **stage: Any) -> tuple[RlTask, State]:
    task, state = begin(algorithm, **stage)
    task._inspection = Inspection(record or Record(), folder / "inspect", 5, algorithm, state.policy.tokenizer)
    return task, state


def told(folder: Path, number: int = 1) -> list[dict[str, Any]]:
    record = json.loads((folder / "inspect" / f"step-{number:06d}.json").read_text())
    assert (record["stage"], record["step"]) == ("rl", number)
    return record["samples"]


def names(sample: dict[str, Any]) -> list[str]:
    return [FATES[fate] for fate in sample["fates"]]


def test_the_numbers_are_those_of_the_update(tmp_path: Path) -> None:
    task, state = followed(tmp_path, Reinforce())
    ((batch,),) = task.minibatches(state)
    logprobs_A, entropy_A = (x.detach() for x in state.policy.score(batch, task.stage.sampling))
    task.update(state, [batch])
    state.step += 1
    task.after_step(state, {})
    samples = told(tmp_path)
    assert [(s["prompt_id"], s["index"]) for s in samples] == [(f"p{i // 3}", i % 3) for i in range(8)]
    for place, sample in enumerate(samples):
        own_A = batch.sequence_A == place
        columns = {name: torch.tensor(column) for name, column in sample["columns"].items()}
        torch.testing.assert_close(columns["learner"], logprobs_A[own_A], rtol=1e-3, atol=0)
        torch.testing.assert_close(columns["entropy"], entropy_A[own_A], rtol=1e-3, atol=0)
        torch.testing.assert_close(columns["advantage"], batch.fields["advantages"][own_A], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(columns["mismatch"], logprobs_A[own_A] + 5.0, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(columns["push"].sign(), columns["advantage"].sign())
        assert columns["ratio"].tolist() == [1.0] * len(columns["ratio"])
        assert len(sample["pieces"]) == len(columns["sampler"]) == 2 + sample["index"]


def test_it_changes_nothing(tmp_path: Path) -> None:
    plain, watched = begin(Grpo(), epochs=2), followed(tmp_path, Grpo(), epochs=2)
    for task, state in (plain, watched):
        torch.manual_seed(0)
        step(task, state)
    for name, master in plain[1].policy.masters.items():
        assert watched[1].policy.masters[name].equal(master)


def test_clipped_tokens_say_on_which_side(tmp_path: Path) -> None:
    """In later epochs of large steps ratios leave the clip range: there the anchor still pulls, and credit does not."""
    task, state = followed(tmp_path, Grpo(kl=0.04), epochs=3)
    step(task, state)
    seen = [
        (sample["columns"]["ratio"][i], sample["columns"]["advantage"][i], sample["columns"]["push"][i], name)
        for sample in told(tmp_path)
        for i, name in enumerate(names(sample))
    ]
    assert {"clipped above", "clipped below", "learned", "no credit"} <= {name for *_, name in seen}
    for ratio, advantage, push, name in seen:
        assert (name == "clipped above") == (ratio > 1.2 and advantage > 0)
        assert (name == "clipped below") == (ratio < 0.8 and advantage < 0)
        assert (push == 0) == (name != "learned")
    assert all("kl" in sample["columns"] for sample in told(tmp_path))


@pytest.mark.parametrize(
    ("algorithm", "stage", "fate"),
    [
        (Cispo(clip_high=0.01, clip_low=0.01), {"epochs": 2}, "weight clipped"),
        (HighEntropy(share=0.2), {}, "not chosen"),
        (Reinforce(), {"correction": Correction(kind="mask", least=0.9, most=1.1)}, "corrected away"),
        (Dapo(), {}, "learned"),
    ],
)
def test_why_a_token_was_not_learned_from(tmp_path: Path, algorithm: Algorithm, stage: Any, fate: str) -> None:
    task, state = followed(tmp_path, algorithm, **stage)
    step(task, state)
    assert fate in {name for sample in told(tmp_path) for name in names(sample)}


def test_a_critic_tells_values_and_a_skipped_or_failed_sample_what_the_sampler_knew(tmp_path: Path) -> None:
    task, state = followed(tmp_path, Ppo())
    step(task, state)
    assert {"value", "return"} <= told(tmp_path)[0]["columns"].keys()
    task, state = followed(tmp_path, Grpo(kl=0.0))
    groups = task.collector.collect(state.policy, 0)
    groups[0].samples[0].reward, groups[0].samples[0].failure = None, "no number"
    task.collector.collect = lambda policy, step: groups  # type: ignore[method-assign]
    step(task, state)
    failed, *_, skipped = told(tmp_path)[:4]
    assert (failed["reward"], failed["failure"], failed["fates"]) == (None, "no number", [])
    assert skipped["skipped"]
    assert skipped["columns"] == {"sampler": [-5.0, -5.0]}


def test_which_steps_and_how_many_samples(tmp_path: Path) -> None:
    task, state = followed(tmp_path, Reinforce(), Record(inspect=4, every=3))
    for _ in range(5):
        step(task, state)
    found = sorted(path.name for path in (tmp_path / "inspect").iterdir())
    assert found == ["step-000001.json", "step-000004.json", "step-000005.json"]  # the fifth is the last
    assert len(told(tmp_path, 4)) == 4
    task, state = followed(tmp_path / "none", Reinforce(), Record(inspect=0))
    step(task, state)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_costs_a_warning_and_no_training(tmp_path: Path) -> None:
    (tmp_path / "inspect").write_text("in the way")
    task, state = followed(tmp_path, Reinforce())
    with pytest.warns(RuntimeWarning, match="training goes on"):
        step(task, state)


def test_numbers_that_are_not_finite_are_null_and_tokens_are_their_texts(tmp_path: Path) -> None:
    task, state = followed(tmp_path, Reinforce())
    groups = task.collector.collect(state.policy, 0)
    groups[0].samples[0].reward = None
    groups[0].samples[0].logprobs[0] = -math.inf
    task.collector.collect = lambda policy, step: groups  # type: ignore[method-assign]
    step(task, state)
    assert told(tmp_path)[0]["columns"]["sampler"] == [None, -5.0]
    tokenizer = state.policy.tokenizer
    ids = tokenizer.encode("two words")
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)
