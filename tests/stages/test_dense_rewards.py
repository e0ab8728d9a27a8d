"""Rewards by models that tell of steps and of tokens: their numbers, their refusals, and that a policy learns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.data.packing import Row, pack
from tutelage.errors import ConfigError, ModelError
from tutelage.functional.logprobs import gather_logprobs
from tutelage.models import load_policy, load_reward_model
from tutelage.models.loading import save
from tutelage.pipelines import plan_recipe, run_recipe
from tutelage.rewards.base import Fault, Outcome, Spread, outcomes_together
from tutelage.stages.implicit_reward import ImplicitReward
from tutelage.stages.model_rewards import ModelReward
from tutelage.stages.steps import combined
from tutelage.training import Quiet
from tutelage.types import Group, Message, Prompt, Sample

CPU = torch.device("cpu")
PROMPT = Prompt("p", text="write:")
RUN: Any = SimpleNamespace(
    load_reward_model=lambda name: load_reward_model(Path(name), torch.float32, CPU),
    load_policy=lambda model: load_policy(Path(model), torch.float32, CPU),
)


def scorer(folder: Path, seed: int, separator: str | None) -> str:
    save(tiny_model(seed=seed), tiny_tokenizer(), folder / f"base-{seed}")
    model = load_reward_model(folder / f"base-{seed}", torch.float32, CPU)
    torch.nn.init.normal_(model.masters["score.weight"], generator=torch.Generator().manual_seed(seed))
    model.separator = separator
    model.save(folder / f"rm-{seed}")
    return str(folder / f"rm-{seed}")


def groups_of(*texts: str) -> list[Group]:
    """Each text, with the end token, in a group of its own."""
    tokens = [[*tiny_tokenizer().encode(text, add_special_tokens=False), 2] for text in texts]
    return [Group(PROMPT, (), [Sample("p", 0, own, [0.0] * len(own), "", "stop", 0)]) for own in tokens]


def probability(folder: str, tokens: list[int]) -> float:
    """The reward model's, of a sequence that ends there."""
    model = load_reward_model(Path(folder), torch.float32, CPU)
    asked = tuple(model.tokenizer.encode("write:"))
    (batch,) = pack([Row(asked, tuple(tokens), 0, tuple(i == len(tokens) - 1 for i in range(len(tokens))))], 100)
    with torch.no_grad():
        return model.scores(batch).sigmoid().item()


def scores(reward: ModelReward, *texts: str) -> list[Outcome]:
    return outcomes_together(reward.loaded(RUN), groups_of(*texts))


def test_the_steps_of_an_answer_become_one_number(tmp_path: Path) -> None:
    name = scorer(tmp_path, 1, "\n")
    tokens = groups_of("1\n2\n3")[0].samples[0].tokens
    steps = [probability(name, tokens[:end]) for end in (2, 4, 6)]
    assert max(steps) - min(steps) > 0.01
    one = probability(name, groups_of("7")[0].samples[0].tokens)
    expected = {"min": min(steps), "product": math.prod(steps), "mean": sum(steps) / 3, "last": steps[2]}
    for how, number in expected.items():
        assert scores(ModelReward(models=(name,), steps=how), "1\n2\n3", "7") == pytest.approx([number, one], abs=1e-5)
        assert combined(steps, how) == pytest.approx(number)  # type: ignore[arg-type]
    assert scores(ModelReward(models=(name,)), "1\n2\n3") == pytest.approx([min(steps)], abs=1e-5)
    assert scores(ModelReward(models=(name,)), "\n") == [Fault("it has no step to be scored at")]
    other = scorer(tmp_path, 2, "\n")
    both = scores(ModelReward(models=(name, other), combine="worst"), "1\n2\n3")
    assert both == pytest.approx([min(steps + [probability(other, tokens[:end]) for end in (2, 4, 6)])], abs=1e-5)


def test_each_step_is_rewarded_at_its_end(tmp_path: Path) -> None:
    name = scorer(tmp_path, 1, "\n")
    reward = ModelReward(models=(name,), dense=True, per_token=0.01)
    (spread, blank) = scores(reward, "1\n2\n3", " ")
    assert isinstance(spread, Spread)
    tokens = groups_of("1\n2\n3")[0].samples[0].tokens
    expected = [-0.01] * 6
    for end in (2, 4, 6):
        expected[end - 1] += probability(name, tokens[:end]) / 3
    assert spread.tokens == pytest.approx(expected, abs=1e-5)
    mean = scores(ModelReward(models=(name,), steps="mean", per_token=0.01), "1\n2\n3")
    assert [spread.total] == pytest.approx(mean, abs=1e-5)
    assert blank == Fault("it has no step to be scored at")
    assert reward.spreads
    assert not ModelReward(models=(name,)).spreads


def test_models_of_another_kind_are_refused_as_they_are_loaded(tmp_path: Path) -> None:
    steps, whole = scorer(tmp_path, 1, "\n"), scorer(tmp_path, 2, None)
    for key, value in (("dense", True), ("steps", "min")):
        with pytest.raises(
            ConfigError, match=rf"reward 'reward-model': {key}: .*rm-2 scores whole answers and knows no"
        ):
            ModelReward(models=(whole,), **{key: value}).loaded(RUN)
    with pytest.raises(ConfigError, match=r"models: .*rm-1 scores steps, .*rm-2 whole answers"):
        ModelReward(models=(whole, steps), name="both").loaded(RUN)


def implicit(folder: Path) -> ImplicitReward:
    for seed in (1, 2):
        save(tiny_model(seed=seed), tiny_tokenizer(), folder / str(seed))
    return ImplicitReward(model=str(folder / "1"), reference=str(folder / "2"), beta=0.5).loaded(RUN)


def test_the_implicit_reward_of_a_token_is_its_log_ratio(tmp_path: Path) -> None:
    """By transformers' own forward of each model, on a chat prompt, whatever it is packed beside."""
    reward = implicit(tmp_path)
    prompt, tokenizer = Prompt("p", (Message("user", "hi"),)), tiny_tokenizer()
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True)["input_ids"]
    answers = [[40, 41, 2], [], [77, 2], [120] * 9]
    group = Group(prompt, (), [Sample("p", i, tokens, [], "", "stop", 0) for i, tokens in enumerate(answers)])
    found = outcomes_together(reward, [group, Group(PROMPT, (), group.samples[:1])])
    for tokens, spread in zip(answers, found, strict=False):
        assert isinstance(spread, Spread)
        logprobs: list[torch.Tensor] = []
        for seed in (1, 2):
            whole = torch.tensor([*asked, *tokens])
            with torch.no_grad():
                logits_TV = tiny_model(seed=seed)(input_ids=whole[None]).logits[0, len(asked) - 1 : len(whole) - 1]
            logprobs.append(gather_logprobs(logits_TV, whole[len(asked) :]))
        expected = (0.5 * (logprobs[0] - logprobs[1])).tolist()
        assert spread.tokens == pytest.approx(expected, abs=1e-4)
        assert spread.total == pytest.approx(sum(expected), abs=1e-4)
    assert found[4] != found[0]  # another prompt
    assert reward.spreads
    assert not any(model.masters for model in reward._loaded)  # nothing of them is trained


RECIPE = """
name = "prime"
model = "{model}"
compute = "fp32"

[environments.sums]
type = "arithmetic"
maximum = 9
train_questions = 40
test_questions = 20

[[stage]]
name = "labels"
type = "label"
environment = "sums"
questions = 24
answers = 6
rewards = [{{ type = "regex", pattern = "[02468]" }}]
sampling = {{ max_new_tokens = 6 }}

[[stage]]
name = "implicit"
type = "preference"
source = {{ type = "stage", stage = "labels" }}
loss = {{ type = "outcome" }}
epochs = 6
prompts_per_step = 8
tokens_per_microbatch = 400
optimizer = {{ lr = 3e-3 }}

[[stage]]
name = "prime"
type = "rl"
start = "base"
environment = "sums"
algorithm = {{ type = "prime" }}
rewards = [{{ type = "regex", pattern = "[02468]" }}, {{ type = "implicit", model = "implicit", reference = "base" }}]
steps = 10
prompts_per_step = 6
sampling = {{ max_new_tokens = 6 }}
optimizer = {{ lr = 1e-2 }}
"""


def prepared(folder: Path, *overrides: str) -> Any:
    (folder / "recipe.toml").write_text(RECIPE.format(model=tiny_model_folder(folder / "tiny"), folder=folder))
    return read_recipe(folder / "recipe.toml", overrides)


def test_prime_learns_by_what_an_outcome_model_says_of_tokens(tmp_path: Path) -> None:
    run_recipe(prepared(tmp_path), tmp_path / "run", Quiet())
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    learned = [row for row in rows if row["stage"] == "implicit"]
    assert learned[0]["loss"] == pytest.approx(math.log(2.0), abs=1e-3)
    assert learned[-1]["accuracy"] > 0.75
    assert learned[-1]["margin"] > 0.2  # the good answers' log-odds above the bad ones'
    found = [row for row in rows if row["stage"] == "prime"]
    assert sum(row["reward/regex"] for row in found[-3:]) / 3 > found[0]["reward/regex"] + 0.2
    assert found[-1]["reward/implicit"] > found[0]["reward/implicit"]
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    for line in (line for line in samples if line["stage"] == "prime"):
        assert sum(line["token_rewards"]) == pytest.approx(line["rewards"]["implicit"])
        assert line["reward"] == pytest.approx(line["rewards"]["implicit"] + line["rewards"]["regex"])


MISTAKES = [
    (
        "prime.rewards=[{type='regex',pattern='1'}]",
        r"prime\.rewards: 'prime' reads what single tokens earned, and none",
    ),
    (
        "prime.rewards=[{type='task'},{type='implicit',model='implicit',weight=0.0}]",
        r"prime\.rewards: 'prime' reads what single tokens earned",
    ),
    (
        "prime.rewards=[{type='implicit',model='implicti'}]",
        r"prime\.rewards\[0\]\.model: 'implicti' is neither a stage before this one .* did you mean 'implicit'",
    ),
    (
        "prime.rewards=[{type='implicit',model='implicit',reference='labels'}]",
        r"rewards\[0\]\.reference: wanted is a stage that leaves: policy; 'labels' \(label\) leaves: judged answers",
    ),
    (
        "prime.rewards=[{type='implicit',model='implicit',reference='implicit'}]",
        r"rewards\[0\]\.reference: 'implicit' has learned beside 'base', so .* set reference = 'base'",
    ),
    ("prime.rewards=[{type='implicit',model='implicit',beta=0}]", r"beta: .*greater than 0"),
    ("prime.completions_per_prompt=1", "every advantage would be 0"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0][:60] for m in MISTAKES])
def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_recipe(prepared(tmp_path, override))


def test_a_model_with_other_tokens_is_refused(tmp_path: Path) -> None:
    save(tiny_model(), tiny_tokenizer("gemma"), tmp_path / "other")
    for key in ("model", "reference"):
        table = {"model": "'base'", "reference": "'base'", key: f"'{tmp_path}/other'"}
        override = f"prime.rewards=[{{type='implicit',model={table['model']},reference={table['reference']}}}]"
        with pytest.raises(ModelError, match=rf"prime\.rewards\[0\]\.{key}: the tokenizer of .*other' is another than"):
            plan_recipe(prepared(tmp_path, override, "implicit.keep=true"))
