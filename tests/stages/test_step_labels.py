"""Monte Carlo labels of steps: they are the policy's chance of a right answer from there, and a reward model's data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage.config import Sampling, StepLabels, read_recipe
from tutelage.data import build_judged_source, render_prompt
from tutelage.engines import Completion, Engine, NativeEngine, Request, ScriptedEngine
from tutelage.errors import ConfigError, FailedSamplesError
from tutelage.models import PACKED, Policy
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.rewards import Reward, RewardSuite
from tutelage.stages.asking import Asking
from tutelage.stages.step_labels import label_steps, share_right
from tutelage.training import Quiet
from tutelage.types import Group, Message, Prompt, Sample

PROMPT = Prompt("p", text="add:")


class EvenEnd(Reward):
    """1 where the last token's number is even; what holds a question mark fails."""

    isolated: ClassVar[bool] = False
    type: str = "even-end"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        if "?" in sample.text:
            raise ValueError("a question")
        return float(sample.tokens[-1] % 2 == 0)


def tokens_of(text: str) -> list[int]:
    return tiny_tokenizer().encode(text, add_special_tokens=False)


def group_of(*texts: str) -> Group:
    samples = [
        Sample("p", i, [*tokens_of(text), 2], [-1.0] * (len(tokens_of(text)) + 1), text, "stop", 0, reward=float(i % 2))
        for i, text in enumerate(texts)
    ]
    return Group(PROMPT, tuple(render_prompt(tiny_tokenizer(), PROMPT)), samples)


def asked(engine: Engine, suite: RewardSuite, policy: Any = None) -> Asking:
    run: Any = SimpleNamespace(seed=7, progress=SimpleNamespace(progress=lambda *_: None))
    return Asking(run, policy or SimpleNamespace(tokenizer=tiny_tokenizer()), engine, suite)


def test_a_label_is_the_policys_chance_of_a_right_answer() -> None:
    """Exact, by all that two further tokens can be; sampled, within four standard errors."""
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.float32)
    group = group_of("12\n34")
    begun = [*group.prompt_tokens, *tokens_of("12\n")]
    sampling = Sampling(max_new_tokens=len(tokens_of("12\n")) + 2)
    with RewardSuite([EvenEnd()]) as suite:
        settings = StepLabels(continuations=3000)
        (labelled,), (continued,) = label_steps(asked(NativeEngine(policy), suite, policy), [group], settings, sampling)
    policy.module.set_attn_implementation("eager")
    with torch.no_grad():
        first_V = policy.module(input_ids=torch.tensor([begun])).logits[0, -1].softmax(-1)
        every = torch.tensor([[*begun, token] for token in range(VOCAB)])
        second_VV = policy.module(input_ids=every).logits[:, -1].softmax(-1)
    policy.module.set_attn_implementation(PACKED)
    even_V = second_VV[:, ::2].sum(-1)
    even_V[2] = 1.0  # the end token, which is even, ends the answer
    exact = (first_V * even_V).sum().item()
    assert labelled.labels is not None
    judged = [sample for sample in continued.samples if sample.failure is None]
    assert labelled.labels[0] == sum(sample.reward or 0.0 for sample in judged) / len(judged)
    error = math.sqrt(exact * (1 - exact) / len(judged))
    lost = (3000 - len(judged)) / 3000  # the few that fail are left out, and might have been any
    assert abs(labelled.labels[0] - exact) < 4 * error + lost
    assert lost < 0.05
    assert 0.2 < exact < 0.8
    assert all(sample.tokens[: len(begun) - len(group.prompt_tokens)] == tokens_of("12\n") for sample in judged)


def scripted(right: dict[str, int], requests: list[Request]) -> Engine:
    """Of the completions of a beginning with that text, the first so many are right."""

    def script(request: Request, index: int) -> Completion:
        if index == 0:
            requests.append(request)
        text = tiny_tokenizer().decode(request.tokens[len(render_prompt(tiny_tokenizer(), PROMPT)) :])
        last = 2 if index < right[text] else 5
        return Completion([*tokens_of("9"), last], [-0.5, -0.5], "stop", 3)

    return ScriptedEngine(script)


def test_shares_of_every_step_and_what_was_asked_for_them() -> None:
    group, requests = group_of("1\n2\n3", "7", " \n "), list[Request]()
    engine = scripted({"1\n": 5, "1\n2\n": 0}, requests)
    with RewardSuite([EvenEnd()]) as suite:
        stepped, continued = label_steps(asked(engine, suite), [group], StepLabels(), Sampling(max_new_tokens=20))
    assert [one.labels for one in stepped] == [(5 / 8, 0.0, 0.0), (1.0,)]  # the last: is the answer itself right?
    assert [one.texts for one in stepped] == [["1", "2", "3"], ["7"]]  # what is blank is no answer in steps
    assert [request.tokens for request in requests] == [
        (*group.prompt_tokens, *group.samples[0].tokens[:2]), (*group.prompt_tokens, *group.samples[0].tokens[:4])
    ]  # fmt: skip
    assert [(request.count, request.most) for request in requests] == [(8, 18), (8, 16)]
    assert len({request.seed for request in requests}) == 2
    first = continued[0].samples[0]
    assert (first.text, first.tokens) == ("1\n9", [*tokens_of("1\n9"), 2])  # whole answers, by their own tokens
    assert (first.logprobs, first.version) == ([-1.0, -1.0, -0.5, -0.5], 3)


def test_the_hard_estimate_asks_whether_any_was_right() -> None:
    engine = scripted({"1\n": 1, "1\n2\n": 0}, [])
    with RewardSuite([EvenEnd()]) as suite:
        (one,), _ = label_steps(
            asked(engine, suite), [group_of("1\n2\n3")], StepLabels(hard=True, continuations=4), Sampling()
        )
    assert one.labels == (1.0, 0.0, 0.0)


def test_failures_take_no_part_in_a_share() -> None:
    assert share_right([1.0, None, 0.0, 0.0], StepLabels()) == pytest.approx(1 / 3)
    assert share_right([None, None], StepLabels()) is None
    assert share_right([0.4, 0.6, 0.2], StepLabels(right_above=0.3)) == pytest.approx(2 / 3)
    engine = ScriptedEngine(lambda request, index: Completion([*tokens_of("?"), 2], [-1.0, -1.0], "stop", 0))
    with RewardSuite([EvenEnd()]) as suite:
        (one,), (continued,) = label_steps(asked(engine, suite), [group_of("1\n2")], StepLabels(), Sampling())
    assert one.labels is None
    assert all(sample.failure for sample in continued.samples)


def test_an_answer_whose_steps_are_others_as_text_is_a_failure() -> None:
    """The template of thinking models puts an empty thought before an answer that has none: a step, or two, more."""
    tokenizer, prompt = tiny_tokenizer("thinking"), Prompt("p", (Message("user", "add"),))
    tokens = tokenizer.encode("1\n2", add_special_tokens=False)
    sample = Sample("p", 0, tokens, [-1.0] * len(tokens), "1\n2", "length", 0, reward=1.0)
    group = Group(prompt, tuple(render_prompt(tokenizer, prompt)), [sample])
    with RewardSuite([EvenEnd()]) as suite:
        of = asked(scripted({}, []), suite, SimpleNamespace(tokenizer=tokenizer))
        assert label_steps(of, [group], StepLabels(), Sampling()) == ([], [])
    assert (sample.reward, sample.failure) == (None, "its 2 steps are 4 when they are written down")


RECIPE = """
name = "shepherd"
model = "{model}"
compute = "fp32"

[environments.write]
type = "questions"
train = {{ type = "jsonl", path = "{folder}/openings.jsonl", question = "prompt", plain = true }}
test = {{ type = "jsonl", path = "{folder}/openings.jsonl", question = "prompt", plain = true }}

[[stage]]
name = "sft"
type = "sft"
source = {{ type = "jsonl", path = "{folder}/lines.jsonl" }}
epochs = 30
optimizer = {{ lr = 1e-2 }}

[[stage]]
name = "labels"
type = "label"
environment = "write"
answers = 4
rewards = [{{ type = "regex", pattern = "^[0-4\\\\n]*$" }}]
steps = {{ continuations = 4 }}
sampling = {{ max_new_tokens = 12 }}

[[stage]]
name = "prm"
type = "reward-model"
source = {{ type = "stage", stage = "labels" }}
loss = {{ type = "outcome" }}
epochs = 4
prompts_per_step = 8
optimizer = {{ lr = 3e-3 }}

[[stage]]
name = "ppo"
type = "rl"
start = "sft"
environment = "write"
algorithm = {{ type = "ppo", critic = {{ lr = 1e-2 }} }}
rewards = [{{ type = "reward-model", models = ["prm"], dense = true }}]
steps = 4
prompts_per_step = 6
sampling = {{ max_new_tokens = 12 }}
optimizer = {{ lr = 3e-3 }}

[[stage]]
name = "whose"
type = "compare"
environment = "write"
contestants = [{{ model = "sft" }}, {{ model = "ppo" }}, {{ model = "sft", best_of = 4, by = "prm" }}]
rewards = [{{ type = "reward-model", models = ["prm"], steps = "product" }}]
samples = 4
sampling = {{ max_new_tokens = 12 }}
"""


def prepared(folder: Path, *overrides: str) -> Any:
    openings = [{"id": str(i), "prompt": f"write {i}:"} for i in range(8)]
    (folder / "openings.jsonl").write_text("\n".join(map(json.dumps, openings)) + "\n")
    lines = [
        {"prompt": f"write {i % 8}:", "completion": "\n".join(f"{i * k % 10}" * 2 for k in (1, 3, 7))}
        for i in range(40)
    ]
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "recipe.toml").write_text(RECIPE.format(model=tiny_model_folder(folder / "tiny"), folder=folder))
    return read_recipe(folder / "recipe.toml", overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shepherd")
    recipe = prepared(folder)
    lines = list(plan_recipe(recipe).lines())
    assert any(
        "4 answers to each of 8 prompts of write/train, each step gone on with 4 times" in line for line in lines
    )
    run_recipe(recipe, folder / "run", Quiet())
    return folder


def result(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "run/stages" / stage / "result.json").read_text())


def samples(folder: Path, stage: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "run/samples.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == stage]


def test_what_a_label_stage_leaves_is_a_data_set_of_steps(folder: Path) -> None:
    told = result(folder, "02-labels")
    path = folder / "run" / told["judged"]
    judged = build_judged_source({"type": "jsonl", "path": str(path)}, "source").load_judged()
    assert all(one.stepwise for one in judged)
    assert told["answers"] == len(judged)
    assert told["steps"] == sum(len(one.scores) for one in judged) > 40
    assert told["right"] == pytest.approx(sum(sum(one.scores) for one in judged) / told["steps"])
    answers, continued = samples(folder, "labels"), samples(folder, "labels: continued")
    assert len(answers) == 32
    assert len(continued) == 4 * (told["steps"] - told["answers"])
    right = {f"{line['prompt_id']}/{line['index']}": line["reward"] for line in answers}
    assert all(one.scores[-1] == right[one.id] for one in judged)
    assert {score for one in judged for score in one.scores[:-1]} <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_the_tokens_of_an_answer_earn_what_its_steps_are_worth(folder: Path) -> None:
    rows = samples(folder, "ppo")
    assert len(rows) == 4 * 6 * 8
    for row in rows:
        assert len(row["token_rewards"]) == row["tokens"]
        assert sum(row["token_rewards"]) == pytest.approx(row["reward"])
        steps = sum(worth > 0 for worth in row["token_rewards"])
        assert row["reward"] < 1.0
        assert steps >= 1
        assert all(worth < 1.0 / steps for worth in row["token_rewards"])


def test_the_best_by_its_steps_wins_by_its_steps(folder: Path) -> None:
    found = result(folder, "05-whose")["contestants"]
    assert found["sft, best of 4"]["beats"]["sft"]["reward-model"]["mean"] > 0.6
    assert all(0.0 < line["reward"] < 1.0 for line in samples(folder, "whose: sft"))


def test_a_run_that_was_killed_while_it_labelled_labels_anew(folder: Path, tmp_path: Path) -> None:
    class Killed(Quiet):
        def progress(self, done: int, wanted: int, what: str) -> None:
            if wanted > 32:  # the continuations
                raise KeyboardInterrupt

    (tmp_path / "recipe.toml").write_text((folder / "recipe.toml").read_text().split('[[stage]]\nname = "ppo"')[0])
    recipe = read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "run", Killed())
    resume_run(tmp_path / "run", Quiet())
    for name in ("02-labels/judged.jsonl", "03-prm/model/model.safetensors"):
        one, other = ((at / "run/stages" / name).read_bytes() for at in (folder, tmp_path))
        assert one == other
    assert samples(tmp_path, "labels: continued") == samples(folder, "labels: continued")


MISTAKES = [
    ("labels.sampling.temperature=0", r"labels\.sampling\.temperature: 0 goes on in one way only"),
    ("labels.steps.continuation=3", "unknown key 'continuation': did you mean 'continuations'"),
    ("labels.steps.separator=;", r"prm\.separator: stage 'labels' cuts steps at ';', not at '\\n'"),
    ("prm.loss.type=bradley-terry", r"prm\.loss: 'bradley-terry' gives a step no probability"),
    ("ppo.rewards=[{type='reward-model',models=['prm'],dense=true,clip=1.0}]", "dense: each step of one model's"),
    ("ppo.rewards=[{type='reward-model',models=['prm'],dense=true,steps='min'}]", "dense: each step of one model's"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0][:50] for m in MISTAKES])
def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_recipe(prepared(tmp_path, override))


@pytest.mark.parametrize("kind", ["preference", "sft"])
def test_labels_of_steps_are_for_reward_models_alone(tmp_path: Path, kind: str) -> None:
    text = RECIPE.replace('type = "reward-model"\nsource', f'type = "{kind}"\nsource')
    text = text.replace('loss = {{ type = "outcome" }}\n', "").split('[[stage]]\nname = "ppo"')[0]
    prepared(tmp_path)
    if kind == "sft":
        text = text.replace("prompts_per_step = 8\n", "")
    (tmp_path / "recipe.toml").write_text(text.format(model=tmp_path / "tiny", folder=tmp_path))
    with pytest.raises(
        ConfigError, match=r"prm\.source: stage 'labels' labels the steps of answers, which only a reward"
    ):
        plan_recipe(read_recipe(tmp_path / "recipe.toml"))


def test_too_many_failures_stop_the_stage(tmp_path: Path) -> None:
    recipe = prepared(
        tmp_path, "labels.rewards=[{type='function',function='tests.pipelines.rewards:fails_on_odd_samples'}]"
    )
    with pytest.raises(FailedSamplesError, match="could not be judged, more than max_failed_share"):
        run_recipe(recipe, tmp_path / "run", Quiet())
