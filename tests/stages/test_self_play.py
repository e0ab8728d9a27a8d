"""One policy plays both sides, or proposes and solves: it learns, it can be resumed, and it meets opponents."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.pipelines.parts import tiny_model_folder
from tests.stages.parity import ParityKuhn
from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage.algorithms import Algorithm, Spiral, TrrPp
from tutelage.config import Optimizer, RlStage, Sampling, read_recipe
from tutelage.data.packing import Row, pack
from tutelage.engines import build_engine
from tutelage.environments import Game
from tutelage.errors import ConfigError, DataError
from tutelage.models import Policy
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.pipelines.figures import figures, in_words
from tutelage.pipelines.sources import _sources_of_part, _with_imported
from tutelage.rewards import RewardSuite
from tutelage.stages.collect import Collector
from tutelage.stages.experience import experience_of, rows_of
from tutelage.stages.rl import first_state
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import Quiet
from tutelage.types import Credit, Experience, Group

BLUNDERS = {"bet K": "fold", "check bet K": "fold", "bet J": "call", "check bet J": "call"}
"""What never pays, by what the side to move sees: a bet that is surely won is folded, or one surely lost called."""


def short() -> Policy:
    """A tiny policy whose prompts are what it is asked and nothing else: the last token is its card."""
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return Policy(tiny_model(), tokenizer, torch.float32)


class WrongSpiral(Spiral):
    def credit(self, experience: Experience) -> Credit:
        credit = super().credit(experience)
        return replace(credit, advantages_A=-credit.advantages_A)


def played(algorithm: Algorithm, steps: int, seed: int = 1) -> tuple[Policy, list[Group]]:
    """A tiny policy that has played Kuhn poker with itself, and the groups of its last step."""
    stage = RlStage(
        type="rl",
        name="rl",
        environment="poker",
        prompts_per_step=96,
        completions_per_prompt=1,
        sampling=Sampling(max_new_tokens=1),
        optimizer=Optimizer(lr=0.01),
        steps=steps,
    )
    environment = Game(game="tests.stages.parity:ParityKuhn")
    plan = RlPlan(stage, algorithm, environment, (environment.scorer(),), environment.examples())
    learner, progress = short(), SimpleNamespace(progress=lambda *_: None)
    run: Any = SimpleNamespace(seed=seed, samples=SimpleNamespace(append=lambda line: None), progress=progress)
    state, engine = first_state(plan, learner), build_engine("auto", learner)
    with RewardSuite(plan.rewards, 10.0) as suite:
        collector = Collector(plan, run, engine, suite)
        task = RlTask(plan, run, collector)
        for _ in range(steps):
            for batches in task.minibatches(state):
                task.update(state, batches)
            state.step += 1
    return learner, collector._seen


@torch.no_grad()
def blunders(policy: Policy) -> dict[str, float]:
    """How likely each of the blunders is."""
    vocabulary = [policy.tokenizer.decode([token]) for token in range(VOCAB)]
    found: dict[str, float] = {}
    for seen, blunder in BLUNDERS.items():
        (batch,) = pack([Row(tuple(policy.tokenizer.encode(seen, add_special_tokens=False)), (9,), 0)], 100)
        (chances_V,) = policy.logits(policy.states(batch), Sampling()).softmax(-1)
        is_it = [ParityKuhn.read(text, ("fold", "call")) == blunder for text in vocabulary]
        found[seen] = chances_V[torch.tensor(is_it)].sum().item()
    return found


def test_a_policy_that_plays_itself_unlearns_what_never_pays() -> None:
    before = blunders(short())
    assert before["bet K"] > 0.2
    assert before["bet J"] > 0.7
    for seed in (1, 2):
        after = blunders(played(Spiral(), 32, seed)[0])
        assert after["bet K"] < 0.1
        assert after["check bet K"] < 0.1
        assert after["bet J"] < before["bet J"] - 0.1
        assert after["check bet J"] < before["check bet J"] - 0.1


def test_with_the_sign_turned_it_learns_to_fold_what_is_won() -> None:
    after = blunders(played(WrongSpiral(), 16)[0])
    assert after["bet K"] > 0.8
    assert after["check bet K"] > 0.8


def test_the_experience_of_a_step_knows_roles_and_games_and_takes_out_what_a_role_expects() -> None:
    _, groups = played(Spiral(), 1)
    assert {group.role for group in groups} == {"first", "second"}
    payoffs = {(s.episode, g.role): s.reward for g in groups for s in g.samples}
    assert {episode for episode, _ in payoffs} == set(range(96))
    for episode in range(96):  # who begins always moves; what one side has won the other has lost
        assert payoffs.get((episode, "second"), -payoffs[episode, "first"]) == -payoffs[episode, "first"]
    experience = experience_of(groups, rows_of(groups), None)
    assert experience.role_P is not None
    assert [["first", "second"][role] for role in experience.role_P.tolist()] == [group.role for group in groups]
    credit_A = Spiral().credit(experience).advantages_A
    role_A = experience.role_P[experience.sequence_A // experience.rewards_PG.shape[1]]
    scaled_A = TrrPp().credit(experience).advantages_A
    for role in (0, 1):
        assert experience.rewards_PG[experience.role_P == role].sum().abs() > 1.0  # the roles do expect something
        assert credit_A[role_A == role].mean().abs() < 0.15  # not exactly 0: some games have two moves of a role
        torch.testing.assert_close(scaled_A[role_A == role].mean(), torch.zeros(()), atol=1e-5, rtol=0.0)


TOP = """
name = "play"
model = "{model}"
seed = 3
compute = "fp32"
[environments.poker]
type = "game"
game = "tests.stages.parity:ParityKuhn"
[environments.programs]
type = "tests.stages.parity:ShortPrograms"
characters = 10
references = 2
train_questions = 20
test_questions = 10
"""
KUHN = """
[[stage]]
name = "train"
type = "rl"
environment = "poker"
algorithm = { type = "spiral" }
steps = 4
prompts_per_step = 12
completions_per_prompt = 1
sampling = { max_new_tokens = 3 }
optimizer = { lr = 1e-3 }
checkpoints = { every = 2 }
"""
PROGRAMS = """
[[stage]]
name = "train"
type = "rl"
environment = "programs"
algorithm = { type = "trr_pp" }
steps = 4
prompts_per_step = 3
completions_per_prompt = 2
sampling = { max_new_tokens = 3 }
optimizer = { lr = 1e-3 }
checkpoints = { every = 2 }
"""
MATCH = """
[[stage]]
name = "match"
type = "evaluate"
environment = "poker"
opponent = "optimal"
questions = 30
sampling = { temperature = 1.0, max_new_tokens = 3 }
"""


def write(folder: Path, stages: str) -> Path:
    model = tiny_model_folder(folder / "tiny", max_position_embeddings=1024)
    (folder / "recipe.toml").write_text(TOP.format(model=model) + stages)
    return folder / "recipe.toml"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class StopsAt(Quiet):
    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, step: int, metrics: object) -> None:
        if step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stages", [KUHN, PROGRAMS], ids=["game", "programs"])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(stages: str, tmp_path: Path) -> None:
    path = write(tmp_path, stages)
    run_recipe(read_recipe(path), tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(read_recipe(path), tmp_path / "cut", StopsAt(3))
    assert max(line["step"] for line in lines(tmp_path / "cut/samples.jsonl")) == 3
    resume_run(tmp_path / "cut", Quiet())
    assert lines(tmp_path / "cut/samples.jsonl") == lines(tmp_path / "whole/samples.jsonl")
    model = "stages/01-train/model/model.safetensors"
    assert (tmp_path / "cut" / model).read_bytes() == (tmp_path / "whole" / model).read_bytes()


def test_what_is_recorded_of_a_step_of_programs(tmp_path: Path) -> None:
    run_recipe(read_recipe(write(tmp_path, PROGRAMS)), tmp_path / "run", Quiet())
    recorded = [line for line in lines(tmp_path / "run/samples.jsonl") if line["step"] == 4]
    proposed = {line["episode"]: line for line in recorded if line["role"] == "propose"}
    assert sorted(proposed) == [9, 10, 11]
    for line in (line for line in recorded if line["role"] == "solve"):
        assert proposed[line["episode"]]["rewards"] == {"valid": 1.0}
        assert line["reward"] in (1.0, -0.5, -1.0)
    memory = json.loads((tmp_path / "run/stages/01-train/checkpoints/step-000004/memory.json").read_text())
    assert len(memory["found"]) == len(set(memory["found"])) > 2
    last = lines(tmp_path / "run/metrics.jsonl")[-1]
    assert {"reward/propose", "reward/solve", "reward/valid", "reward/correct"} <= last.keys()
    assert last["reward/propose"] == pytest.approx(sum(line["reward"] for line in proposed.values()) / 3)


def test_a_policy_is_evaluated_against_an_opponent_on_both_sides(tmp_path: Path) -> None:
    path = write(tmp_path, MATCH.replace('"match"', '"before"') + KUHN + MATCH)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/03-match/result.json").read_text())
    recorded = [line for line in lines(tmp_path / "run/samples.jsonl") if line["stage"] == "match"]
    payoffs: dict[str, list[float]] = {"first": [], "second": []}
    for name, (score,) in result["scores"].items():
        number, _, role = name.partition(" ")
        moves = [line for line in recorded if line["episode"] == int(number)]
        assert all((line["reward"], line["role"]) == (score, role) for line in moves)
        payoffs[role].append(score)
    assert [len(some) for some in payoffs.values()] == [15, 15]
    for role, some in payoffs.items():
        found = result["roles"][role]
        assert found["mean"] == pytest.approx(sum(some) / 15) == result["components"][f"as {role}"]
        assert found["low"] < found["mean"] < found["high"]
    assert figures(result)["legal"] == sum(line["rewards"]["legal"] for line in recorded) / len(recorded)
    assert in_words(result).startswith("mean payoff against the optimal player ")
    assert " %" not in in_words(result)
    before = json.loads((tmp_path / "run/stages/01-before/result.json").read_text())
    assert before["scores"].keys() == result["scores"].keys()
    report = (tmp_path / "run/report.html").read_text()
    assert "Mean payoff on 30 games against the optimal player" in report


REFUSED = [
    (KUHN, 'train.algorithm={type="grpo"}', r"train\.algorithm: 'grpo' compares answers .* take 'spiral', 'trr_pp' or"),
    (KUHN, 'train.algorithm={type="remax"}', r"train\.algorithm: 'remax' compares"),
    (KUHN, "train.completions_per_prompt=4", r"train\.completions_per_prompt: 4 answers to a position .*set it to 1"),
    (KUHN, "train.prompts_per_step=1", r"train\.prompts_per_step: 1 episode a step has no others"),
    (KUHN, 'train.rewards=[{type="length", maximum=3}]', r"train\.rewards: 'poker' is played: .*leave it out"),
    (KUHN, 'train.split="test"', r"train\.split: 'poker' is played"),
    (PROGRAMS, "train.band=[0.2, 0.8]", r"train\.band: 'programs' is played: .*leave it out"),
    (PROGRAMS, "train.dynamic_from=0", r"train\.dynamic_from: 'programs' is played"),
    (PROGRAMS, "train.completions_per_prompt=1", r"train\.completions_per_prompt: 1 attempt tells no rate"),
    (MATCH, 'match.environment="programs"', r"match\.opponent: 'programs' is no game"),
    (
        MATCH.replace('opponent = "optimal"\n', ""),
        "seed=1",
        r"match\.opponent: a game is .* name 'random' or 'optimal'",
    ),
    (MATCH, "match.samples=2", r"match\.samples: 'poker' is played"),
    (MATCH, 'match.require="legall >= 0.5"', r"leaves no figure 'legall': did you mean 'legal'"),
    (MATCH, 'environments.poker.game="chess"', r"environments\.poker\.game: unknown 'chess': known: kuhn-poker"),
]


@pytest.mark.parametrize(("stages", "override", "message"), REFUSED, ids=[override[:40] for _, override, _ in REFUSED])
def test_what_self_play_cannot_do_is_refused_before_it_begins(
    stages: str, override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_recipe(read_recipe(write(tmp_path, stages), [override]))


@pytest.mark.parametrize(("stages", "name"), [(KUHN, "train"), (MATCH, "match"), (PROGRAMS, "train")])
def test_prompts_that_play_may_bring_must_fit(stages: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}: prompt .* runs over the model's context of 1024"):
        plan_recipe(read_recipe(write(tmp_path, stages), [f"{name}.sampling.max_new_tokens=1000"]))


def test_the_plan_says_what_is_played(tmp_path: Path) -> None:
    told = "\n".join(plan_recipe(read_recipe(write(tmp_path, KUHN + MATCH))).lines())
    assert "spiral, 4 steps x 12 episodes of self-play in poker; 1 update (on-policy) a step" in told
    assert "30 games of poker against the optimal player" in told
    told = "\n".join(plan_recipe(read_recipe(write(tmp_path, PROGRAMS))).lines())
    assert "3 episodes of self-play in programs x 2 attempts" in told


def test_the_rules_of_a_game_are_part_of_what_a_stage_depends_on() -> None:
    sources = _with_imported(list(_sources_of_part(Game(game="tests.stages.parity:ParityKuhn"))))
    hashed = {path.name for path in sources}
    assert {"game.py", "table.py", "position.py", "kuhn_poker.py", "self_play.py", "parity.py"} <= hashed
