"""Reinforcement by a reward model, with all that RLHF has beside it, and the comparison of what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.pipelines.parts import tiny_model_folder
from tests.stages.test_reward_model import write_judged
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.data.packing import Row, pack
from tutelage.errors import ConfigError, ModelError
from tutelage.functional.best_of import best_of_n_kl
from tutelage.models import Policy, ValueModel, load_reward_model
from tutelage.models.loading import save
from tutelage.pipelines import resume_run, run_recipe
from tutelage.report import outcome
from tutelage.rewards.base import Fault, outcomes_together
from tutelage.stages.judged import score_rows
from tutelage.stages.model_rewards import ModelReward
from tutelage.training import Quiet
from tutelage.types import Group, Prompt, Sample

CPU = torch.device("cpu")
RECIPE = """
name = "rlhf"
model = "{model}"
compute = "fp32"

[environments.write]
type = "questions"
train = {{ type = "jsonl", path = "{folder}/openings.jsonl", question = "prompt", plain = true }}
test = {{ type = "jsonl", path = "{folder}/openings.jsonl", question = "prompt", plain = true }}

[[stage]]
name = "rm"
type = "reward-model"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/train.jsonl", limit = 20 }}
epochs = 4
prompts_per_step = 8
max_answer_tokens = 6
optimizer = {{ lr = 3e-3 }}

[[stage]]
name = "ppo"
type = "rl"
environment = "write"
algorithm = {{ type = "ppo", kl = 0.02, critic = {{ kind = "model", start = "rm", lr = 1e-2 }} }}
rewards = [
    {{ type = "reward-model", models = ["rm"], clip = 5.0 }},
    {{ type = "reward-model", name = "gold", models = ["rm"], weight = 0.0 }},
]
pretraining = {{ source = {{ type = "jsonl", path = "{folder}/texts.jsonl" }}, weight = 0.5, sequences_per_update = 4 }}
steps = 10
prompts_per_step = 6
sampling = {{ max_new_tokens = 6 }}
optimizer = {{ lr = 1e-2 }}
average = 0.5
scale_rewards = true

[[stage]]
name = "whose"
type = "compare"
environment = "write"
contestants = [{{ model = "base" }}, {{ model = "ppo" }}, {{ model = "base", best_of = 4, by = "rm" }}]
rewards = [{{ type = "reward-model", models = ["rm"] }}]
samples = 4
kl_to = "base"
sampling = {{ max_new_tokens = 6 }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rlhf")
    write_judged(folder / "train.jsonl", 60, 1)
    openings = [{"id": str(i), "prompt": f"write {i % 5}:" + " " * (i // 5)} for i in range(10)]
    (folder / "openings.jsonl").write_text("\n".join(map(json.dumps, openings)) + "\n")
    texts = [{"text": f"The answer is {i % 8}. The answer is not 8."} for i in range(8)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)) + "\n")
    model = tiny_model_folder(folder / "tiny")
    (folder / "recipe.toml").write_text(RECIPE.format(model=model, folder=folder))
    run_recipe(read_recipe(folder / "recipe.toml"), folder / "run", Quiet())
    return folder


def lines(folder: Path, stage: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["stage"] == stage]


def test_the_reward_rises_and_the_texts_are_not_forgotten(folder: Path) -> None:
    found = lines(folder, "ppo")
    rewards = [row["reward"] for row in found]
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.5, rewards
    assert found[-1]["pretraining_loss"] < found[0]["pretraining_loss"] - 0.2
    assert found[0]["reward/reward-model"] == pytest.approx(found[0]["reward"], abs=1e-6)
    # The critic begins as the reward model: it knows something of the returns before it has learned anything.
    assert found[0]["explained_variance"] != 0.0


def test_what_came_of_it_beats_what_it_began_with(folder: Path) -> None:
    result = json.loads((folder / "run/stages/03-whose/result.json").read_text())
    found = result["contestants"]
    assert result["against"] == "base"
    assert list(found) == ["base", "ppo", "base, best of 4"]
    won = found["ppo"]["beats"]["base"]["reward-model"]
    assert won["mean"] > 0.7
    assert won["low"] < won["mean"] <= won["high"]
    assert found["base, best of 4"]["beats"]["base"]["reward-model"]["mean"] > 0.6
    assert found["ppo"]["scores"]["reward-model"]["mean"] > found["base"]["scores"]["reward-model"]["mean"]
    lost = found["base"]["beats"]["ppo"]["reward-model"]
    assert lost["mean"] == pytest.approx(1.0 - won["mean"])
    assert set(found["base, best of 4"]["beats"]) == {"base", "ppo"}
    assert found["base"]["kl"] == 0.0
    assert found["ppo"]["kl"] > 0.01
    assert found["base, best of 4"]["kl"] == pytest.approx(best_of_n_kl(4))
    samples = [json.loads(line) for line in (folder / "run/samples.jsonl").read_text().splitlines()]
    assert sum(line["stage"] == "whose: ppo" for line in samples) == 40


def test_the_report_tells_who_won_who_agrees_and_what_was_over_optimised(folder: Path) -> None:
    page = (folder / "run/report.html").read_text()
    assert "Comparison: whose" in page
    result = json.loads((folder / "run/stages/03-whose/result.json").read_text())
    last = result["contestants"]["base, best of 4"]["beats"]["base"]["reward-model"]["mean"]
    assert re.search(rf"base, best of 4 beats base in {100 * last:.0f}\W%", page)
    assert "Agreement with people" in page
    assert "Over-optimisation of ppo" in page
    assert outcome(folder / "run").startswith("base, best of 4 beats base in")


def test_the_best_of_n_is_a_best_of_n(folder: Path) -> None:
    """One of four that the judge itself likes best: its mean rank is known, 4 / 5 of the way."""
    result = json.loads((folder / "run/stages/03-whose/result.json").read_text())
    assert result["contestants"]["base, best of 4"]["beats"]["base"]["reward-model"]["mean"] == pytest.approx(
        0.8, abs=0.12
    )


def test_the_stage_leaves_the_average_of_its_weights(folder: Path, tmp_path: Path) -> None:
    """With a share of 0.5 kept, after two steps: a quarter of the start, a quarter of the first, half of the second."""
    recipe = folder / "recipe.toml"
    left: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    for average in ("0.5", "none"):
        for steps in (1, 2):
            out = tmp_path / f"{average}-{steps}"
            text = recipe.read_text().replace("average = 0.5\n", "" if average == "none" else "average = 0.5\n")
            (tmp_path / "recipe.toml").write_text(text.split('[[stage]]\nname = "whose"')[0])
            overrides = [f"ppo.steps={steps}", "rm.steps=2"]
            run_recipe(read_recipe(tmp_path / "recipe.toml", overrides), out, Quiet())
            left[average, steps] = load_file(out / "stages/02-ppo/model/model.safetensors")
    start = load_file(folder / "tiny/model.safetensors")
    for name, value in left["0.5", 2].items():
        expected = 0.25 * start[name] + 0.25 * left["none", 1][name] + 0.5 * left["none", 2][name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    """With a critic of its own, an average, and texts: all that is carried from step to step."""

    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 4 and "pretraining_loss" in numbers:
                raise KeyboardInterrupt

    text = (folder / "recipe.toml").read_text().split('[[stage]]\nname = "whose"')[0]
    (tmp_path / "recipe.toml").write_text(text)
    recipe = read_recipe(tmp_path / "recipe.toml", ["ppo.steps=5", "rm.steps=2", "ppo.checkpoints.every=3"])
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    one, other = ((tmp_path / name / "stages/02-ppo/model/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def scorers(tmp_path: Path, count: int) -> list[str]:
    folders: list[str] = []
    for seed in range(count):
        save(tiny_model(seed=seed), tiny_tokenizer(), tmp_path / f"base-{seed}")
        model = load_reward_model(tmp_path / f"base-{seed}", torch.float32, CPU)
        torch.nn.init.normal_(model.masters["score.weight"], generator=torch.Generator().manual_seed(seed))
        model.save(tmp_path / f"rm-{seed}")
        folders.append(str(tmp_path / f"rm-{seed}"))
    return folders


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("mean", 2.0), ("worst", 0.0), ("careful", 2.0 - 1.5 * 2.0)],
    ids=["mean", "worst", "careful"],
)
def test_an_ensemble_by_hand(combine: str, expected: float) -> None:
    reward = ModelReward(
        models=("a", "b", "c"), combine=combine, **({"deviations": 1.5} if combine == "careful" else {})
    )
    assert reward._combined([0.0, 4.0, 2.0]) == pytest.approx(expected)


def test_scores_are_those_of_the_model_clipped_and_less_so_much_a_token(tmp_path: Path) -> None:
    (name,) = scorers(tmp_path, 1)
    model = load_reward_model(Path(name), torch.float32, CPU)
    run: Any = SimpleNamespace(load_reward_model=lambda wanted: load_reward_model(Path(wanted), torch.float32, CPU))
    prompt, answers = Prompt("p", text="write:"), ([40, 41, 2], [77, 2], [120, 121, 122])
    samples = [Sample("p", i, tokens, [], "", "stop", 0) for i, tokens in enumerate(answers)]
    asked = tuple(model.tokenizer.encode("write:"))
    plain = score_rows(model, [Row(asked, tuple(tokens), 0) for tokens in answers], 100)
    assert max(plain) - min(plain) > 0.01
    reward = ModelReward(models=(name,), clip=0.5, per_token=0.1).loaded(run)
    expected = [max(-0.5, min(0.5, score)) - 0.1 * len(tokens) for score, tokens in zip(plain, answers, strict=True)]
    empty = Sample("p", 3, [], [], "", "stop", 0)
    groups = [Group(prompt, asked, samples[:1]), Group(prompt, asked, [*samples[1:], empty])]
    found = outcomes_together(reward, groups)
    assert found[:3] == pytest.approx(expected, abs=1e-5)
    assert found[3] == Fault("it has no token to be scored at")
    assert reward.score(prompt, samples[0]) == pytest.approx(expected[0], abs=1e-5)


def test_a_critic_begins_as_the_reward_model(tmp_path: Path) -> None:
    (name,) = scorers(tmp_path, 1)
    model = load_reward_model(Path(name), torch.float32, CPU)
    model.mean = 0.25
    (batch,) = pack([Row((5, 9), (40, 41, 2), 0, (False, False, True))], 100)
    with torch.no_grad():
        expected = model.scores(batch)
        critic = ValueModel(Policy(tiny_model(seed=5), tiny_tokenizer(), torch.float32), True, model)
        # A critic values the state before an action: the one after the last token stands one place further on.
        after = pack([Row((5, 9, 40, 41, 2), (7,), 0)], 100)[0]
        torch.testing.assert_close(critic.values(after, torch.empty(0)), expected, rtol=1e-4, atol=1e-5)
    critic.values(batch, torch.empty(0)).sum().backward()
    critic.collect_gradients()
    grads = {name: weight.grad for name, weight in critic.masters.items()}
    assert all(grad is not None for grad in grads.values())
    assert not any("score" in name for name in grads)
    critic.publish()


MISTAKES = [
    ("ppo.rewards=[{type='reward-model',models=['mr']}]", r"ppo\.rewards\[0\]\.models: 'mr' is neither .* known: rm"),
    ("ppo.rewards=[{type='reward-model',models=['rm'],combine='worst'}]", "combine: 'worst' is for several models"),
    ("ppo.algorithm={type='ppo',critic={start='rm'}}", "start: a head on the policy's body begins at 0; set kind"),
    ("ppo.algorithm={type='ppo',critic={kind='model',start='x'}}", r"critic\.start: 'x' is neither"),
    ("ppo.algorithm={type='trpo',baseline='group'}", r"ppo\.pretraining: 'trpo' bounds one objective's step"),
    ("whose.kl_to=sft", r"stage\[2\]: no stage before this one leaves 'sft': known: base, ppo"),
    ("whose.contestants=[{model='ppo'},{model='ppo'}]", r"contestants\[1\]\.name: 'ppo' is taken"),
    ("whose.contestants=[{model='ppo'},{model='ppo',best_of=3}]", "give best_of above 1 and by"),
    ("whose.contestants=[{model='ppo'},{model='rm'}]", r"no stage before this one leaves 'rm'"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0][:60] for m in MISTAKES])
def test_mistakes_are_refused_before_anything_is_loaded(folder: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_recipe(read_recipe(folder / "recipe.toml", [override]), folder / "never", Quiet())


def test_a_reward_model_with_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    save(tiny_model(), tiny_tokenizer("gemma"), tmp_path / "base")
    load_reward_model(tmp_path / "base", torch.float32, CPU).save(tmp_path / "rm")
    override = f"ppo.rewards=[{{type='reward-model',models=['{tmp_path}/rm']}}]"
    with pytest.raises(
        ModelError, match=r"ppo\.rewards\[0\]\.models\[0\]: the tokenizer of .* another than the policy"
    ):
        run_recipe(read_recipe(folder / "recipe.toml", [override]), folder / "never", Quiet())
