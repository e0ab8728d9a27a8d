"""The reward of RLP: its numbers are the two models' own, and thoughts that help are learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.stages.corpora import (
    ECHOES,
    LEARN_TO_ECHO,
    PLAIN,
    POSITIONS,
    RLP,
    THINK,
    write,
    write_echoes,
)
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import Rlp
from tutelage.config import Reference, RlStage, Sampling, read_recipe
from tutelage.data.chat import encode_plain, render_prompt
from tutelage.engines import build_engine
from tutelage.errors import ConfigError, DataError
from tutelage.models import Policy
from tutelage.models.attention import PACKED
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.rewards import RewardSuite
from tutelage.rollouts import roll_out
from tutelage.stages.information_gain import InformationGain
from tutelage.stages.rl import first_state
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.thoughts import thought_tokens
from tutelage.training import Quiet
from tutelage.types import Group, Prompt, Sample

TOKENIZER = tiny_tokenizer()


def policy(seed: int = 0) -> Policy:
    return Policy(tiny_model(seed=seed), TOKENIZER, torch.float32)


def position(name: str, context: str, following: str) -> Prompt:
    tokens = tuple(encode_plain(TOKENIZER, following))
    meta = {"context": context, "context_tokens": tuple(encode_plain(TOKENIZER, context)), "tokens": tokens}
    return Prompt(name, text=f"{context}<think>", answer=following, meta=meta)


PROMPTS = [position("a", "The answer is 7. What", " is 8?"), position("b", "You are a helpful", " assistant.")]


def rolled(sampling: Sampling, learner: Policy | None = None) -> list[Group]:
    learner = learner or policy()
    return roll_out(build_engine("auto", learner), TOKENIZER, PROMPTS, 3, sampling, 5)


def logprob(model: Policy, before: Sequence[int], following: Sequence[int]) -> float:
    """By transformers' own forward of this one sequence."""
    model.module.set_attn_implementation("eager")
    with torch.no_grad():
        logits_TV = model.module(input_ids=torch.tensor([[*before, *following]])).logits[0]
    model.module.set_attn_implementation(PACKED)
    table_TV = logits_TV.log_softmax(-1)
    return sum(table_TV[len(before) + i - 1, token].item() for i, token in enumerate(following))


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("closing", ["</think>", ""])
def test_the_gain_is_the_two_models_own(horizon: int, closing: str) -> None:
    learner, reference = policy(), policy(seed=1)
    reward = InformationGain(horizon=horizon, closing=closing, tokens_per_microbatch=64).between(learner, reference)
    groups = rolled(Sampling(max_new_tokens=5, temperature=0.7), learner)
    with RewardSuite((reward,), 10.0) as suite:
        suite.score(groups)
    closed = encode_plain(TOKENIZER, closing) if closing else []
    for group in groups:
        following, before = group.prompt.meta["tokens"][:horizon], group.prompt.meta["context_tokens"]
        baseline = logprob(reference, before, following)
        asked = render_prompt(TOKENIZER, group.prompt)
        for sample in group.samples:
            after = logprob(learner, [*asked, *sample.tokens, *closed], following)
            assert sample.reward == pytest.approx(after - baseline, abs=1e-4)
            assert reward.score(group.prompt, sample) == pytest.approx(sample.reward, abs=1e-5)
    gains = [sample.reward for group in groups for sample in group.samples]
    assert len(set(gains)) == len(gains), "a thought makes a difference"


def test_nothing_of_it_carries_a_gradient() -> None:
    learner = policy()
    InformationGain().between(learner, policy(1)).score_groups(rolled(Sampling(max_new_tokens=3), learner))
    assert all(master.grad is None for master in learner.masters.values())
    assert not torch.is_grad_enabled() or learner.masters["model.embed_tokens.weight"].requires_grad


def test_the_reference_sees_no_thought_and_the_policy_sees_its_own_tokens() -> None:
    """Two thoughts with the same text and other tokens are not the same."""
    learner, reference = policy(), policy(1)
    reward = InformationGain().between(learner, reference)
    whole, apart = (
        encode_plain(TOKENIZER, " answer"),
        [*encode_plain(TOKENIZER, " a"), *encode_plain(TOKENIZER, "nswer")],
    )
    assert TOKENIZER.decode(whole) == TOKENIZER.decode(apart)
    samples = [
        Sample("a", i, list(some), [0.0] * len(some), " answer", "length", 0) for i, some in enumerate((whole, apart))
    ]
    ((one, other),) = reward.score_groups([Group(PROMPTS[0], tuple(render_prompt(TOKENIZER, PROMPTS[0])), samples)])
    assert abs(one - other) > 1e-3
    with torch.no_grad():
        for weight in reference.masters.values():
            weight.zero_()  # every token is as likely as any other
    ((flat, _),) = reward.score_groups([Group(PROMPTS[0], tuple(render_prompt(TOKENIZER, PROMPTS[0])), samples)])
    expected = logprob(reference, (1,), (2,)) - logprob(
        policy(1), PROMPTS[0].meta["context_tokens"], PROMPTS[0].meta["tokens"][:1]
    )
    assert one - flat == pytest.approx(expected, abs=1e-4)


def cut(tokens: Sequence[int], text: str, finish: Any = "stop") -> str:
    sample = Sample("p", 0, list(tokens), [0.0] * len(tokens), text, finish, 0)
    return TOKENIZER.decode(thought_tokens(TOKENIZER, sample, frozenset(TOKENIZER.all_special_ids)))


def test_a_thought_ends_before_its_stop_string_and_its_end_token() -> None:
    end = TOKENIZER.eos_token_id
    words = encode_plain(TOKENIZER, "The answer is")
    assert cut([*words, end], "The answer is") == "The answer is"
    assert cut([end], "") == ""
    assert cut(words, "The answer is", "length") == "The answer is"
    closed = encode_plain(TOKENIZER, "The answer is</think>")
    assert cut(closed, "The answer is") == "The answer is"
    seam = encode_plain(TOKENIZER, "The answer. The")  # the stop string " answer." begins at a token
    assert cut(seam, "The") == "The"
    inside = encode_plain(TOKENIZER, "The answer")  # "wer" stops inside the token " answer", which goes with it
    assert cut(inside, "The ans") == "The"
    broken = encode_plain(TOKENIZER, "日")[:2]
    assert cut(broken, TOKENIZER.decode(broken), "length") == TOKENIZER.decode(broken)


def test_a_stopped_thought_is_scored_without_what_stopped_it() -> None:
    learner, reference = policy(), policy(1)
    reward = InformationGain().between(learner, reference)
    words = encode_plain(TOKENIZER, "The answer")
    samples = [
        Sample("a", 0, words, [], "The answer", "length", 0),
        Sample("a", 1, [*words, TOKENIZER.eos_token_id], [], "The answer", "stop", 0),
        Sample("a", 2, [*words, *encode_plain(TOKENIZER, "</think>")], [], "The answer", "stop", 0),
    ]
    ((plain, ended, stopped),) = reward.score_groups([Group(PROMPTS[0], (5, 6, 7), samples)])
    assert ended == pytest.approx(plain, abs=1e-5)
    assert stopped == pytest.approx(plain, abs=1e-5)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that thinks a letter at random, and then writes it."""
    folder = tmp_path_factory.mktemp("echo")
    write_echoes(folder / "prompts.jsonl")
    path = write(folder, LEARN_TO_ECHO, f'path = "{folder / "prompts.jsonl"}"\nplain = true')
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ECHOES))
    run_recipe(read_recipe(path), folder / "run", Quiet())
    return folder


Learn = Callable[..., tuple[list[float], list[float]]]


@pytest.fixture
def learn(echo: Path, tmp_path: Path) -> Learn:
    def learned(*overrides: str) -> tuple[list[float], list[float]]:
        """The mean reward of each step, and the accuracy before and after."""
        words = f'path = "{echo / "prompts.jsonl"}"\nplain = true\nbeginning = ":"'
        path = write(tmp_path, THINK, words)
        model = echo / "run/stages/01-echo/model"
        run_recipe(read_recipe(path, [f"model={model}", *overrides]), tmp_path / "run", Quiet())
        rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
        results = [
            json.loads((tmp_path / f"run/stages/{name}/result.json").read_text()) for name in ("01-before", "03-after")
        ]
        return [row["reward"] for row in rows], [result["summary"]["score"]["mean"] for result in results]

    return learned


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thoughts_that_help_are_learned(learn: Learn, seed: int) -> None:
    rewards, (before, after) = learn(f"seed={seed}")
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 1.0, rewards
    assert after > before + 0.2


def test_with_the_sign_turned_they_are_unlearned(learn: Learn) -> None:
    blind = "think.guards={credit='off'}"  # which would stop it in the third step
    rewards, _ = learn("seed=1", 'think.algorithm={type="tests.stages.corpora:WrongSign"}', blind)
    assert sum(rewards[-3:]) / 3 < sum(rewards[:3]) / 3 - 1.0, rewards


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce"])
def test_any_algorithm_can_drive_it(learn: Learn, algorithm: str) -> None:
    rewards, _ = learn("seed=3", f'think.algorithm={{type="{algorithm}", kl=0.0}}')
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 1.0, rewards


def test_the_state_holds_a_reference_that_moves_for_the_reward_alone() -> None:
    def held(*rewards: Any) -> Any:
        stage = RlStage(type="rl", name="rl", environment="e", reference=Reference(ema=0.999))
        return first_state(RlPlan(stage, Rlp(), SimpleNamespace(), rewards, ()), policy()).reference  # type: ignore[arg-type]

    assert held() is None
    assert held(InformationGain()).masters.keys() == policy().masters.keys()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 3:
                raise KeyboardInterrupt

    recipe = read_recipe(write(tmp_path, POSITIONS + RLP))
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    one, other = ((tmp_path / run / "stages/02-think/model/model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other
    told, again = (
        [json.loads(line)["reward"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "cut")
    )
    assert told == again
    assert len(told) == 4


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (
            ["think.reference={}"],
            ConfigError,
            r"think\.reference: 'information-gain' .* set reference = \{ ema = 0\.999 \}",
        ),
        (["think.rewards=[{type='task'}]"], ConfigError, r"think\.reference: 'rlp' has no reference here"),
        (["think.lora.rank=2"], ConfigError, r"think\.lora: .* a reference that moves"),
        (
            ["environments.words={type='arithmetic'}", "look.keep=true"],
            ConfigError,
            r"think\.rewards: 'information-gain' .* type 'corpus', and 'words' is 'arithmetic'",
        ),
        (["think.rewards=[{type='information-gain', horizn=2}]"], ConfigError, "unknown key 'horizn'"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, overrides: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plan_recipe(read_recipe(write(tmp_path, POSITIONS + RLP), overrides))


def test_only_a_stage_that_trains_has_it(tmp_path: Path) -> None:
    stage = PLAIN.replace('"predict"', '"evaluate"\nrewards = [{ type = "information-gain" }]')
    with pytest.raises(ConfigError, match=r"at-once\.rewards\[0\]: .* which only rl stages have; take a predict stage"):
        plan_recipe(read_recipe(write(tmp_path, POSITIONS + stage)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["think.rewards=[{type='information-gain', horizon=4}]"], r"kept with 3 tokens after it, and horizon = 4"),
        (
            ["think.sampling.max_new_tokens=230"],
            r"rewards\[0\]: a prompt of \d+ tokens, a thought of max_new",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_the_positions_are_there(
    tmp_path: Path, overrides: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, POSITIONS + RLP)
    run_recipe(read_recipe(path, ["think.steps=1"]), tmp_path / "run", Quiet())
    monkeypatch.setattr("tutelage.stages.context.load_policy", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(DataError, match=words):
        run_recipe(read_recipe(path, overrides), tmp_path / "run", Quiet())


def test_positions_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    write_echoes(tmp_path / "prompts.jsonl")
    text = (tmp_path / "prompts.jsonl").read_text()
    (tmp_path / "prompts.jsonl").write_text(text.replace('"context_tokens": [', '"context_tokens": [9, '))
    path = write(tmp_path, RLP, f'path = "{tmp_path / "prompts.jsonl"}"\nplain = true')
    with pytest.raises(DataError, match=r"position 'train/Z' was cut by another tokenizer .*; run a `positions` stage"):
        plan_recipe(read_recipe(path))
