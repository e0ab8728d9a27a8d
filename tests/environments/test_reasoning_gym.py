"""The environment `reasoning-gym`: every task makes questions and gives its own gold answers 1."""

import os
import subprocess
import sys

import pytest

from tests.rewards.made import sample
from tutelage.environments import ReasoningGym, build_environment, gold_failures, overlap
from tutelage.environments.gym_splits import _splits
from tutelage.errors import ConfigError, MissingExtraError, TutelageError
from tutelage.rewards import GymReward, RewardSuite, build_reward
from tutelage.rewards.base import Fault, outcomes
from tutelage.rewards.gym import _EVALUATED, _FORMULAS, _LISTS
from tutelage.types import Group

factory = pytest.importorskip("reasoning_gym.factory")

WITHOUT_GOLD = {"boxnet", "rush_hour"}  # reasoning-gym 0.1.25 gives them no answer, only a scorer of what is tried
WITH_WRONG_GOLD = {"propositional_logic"}  # its examples do not always follow from the premises: 0.05 for such
RAISES_ON_NONSENSE = {"prime_factorization"}  # which is a recorded fault
TAKES_NONSENSE = {"game_of_life_halting"}  # whatever is not "True" counts as "False"
CONFIGS = {"composite": {"datasets": [{"name": "leg_counting", "weight": 1.0, "config": {}}]}}


@pytest.mark.parametrize("task", sorted(factory.DATASETS))
def test_every_task_gives_its_own_gold_answers_1(task, monkeypatch):
    monkeypatch.setattr("tutelage.environments.gym.make_splits", _splits)  # without a process for each task
    environment = build_environment(
        {"type": "reasoning-gym", "task": task, "size": 2, "test_size": 1, "config": CONFIGS.get(task, {})}, "e"
    )
    prompts = [*environment.prompts("train"), *environment.prompts("test")]
    assert len(prompts) == 3
    assert not overlap(environment)
    if task in WITHOUT_GOLD:
        assert all(prompt.answer is None for prompt in prompts)
        return
    scores = [
        outcomes(environment.scorer(), prompt, [sample(environment.demonstration(prompt))])[0] for prompt in prompts
    ]
    assert task in WITH_WRONG_GOLD or scores == [1.0] * 3
    (wrong,) = outcomes(environment.scorer(), prompts[0], [sample("certainly not this")])
    assert isinstance(wrong, Fault) == (task in RAISES_ON_NONSENSE)
    assert isinstance(wrong, Fault) or wrong < 1.0 or task in TAKES_NONSENSE


@pytest.mark.parametrize("task", [*_EVALUATED, "composite"])
@pytest.mark.parametrize(
    "attack",
    [
        "__import__('os').mkdir({path!r})",
        "[__import__('os').mkdir({path!r})]",
        "exec(chr(105)+chr(109))or open({path!r},'w')",
        "open({path!r}, 'w')",
    ],
)
def test_no_answer_is_run(task, attack, monkeypatch, tmp_path):
    monkeypatch.setattr("tutelage.environments.gym.make_splits", _splits)
    config = {"datasets": [{"name": "countdown", "weight": 1.0, "config": {}}]} if task == "composite" else {}
    environment = ReasoningGym(task=task, config=config, size=1, test_size=1)
    attack = attack.format(path=str(tmp_path / "taken"))
    assert outcomes(environment.scorer(), environment.prompts("train")[0], [sample(attack)]) == [0.0]
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(("pattern", "answer"), [
    (_LISTS, "['A', 'B-1']"), (_LISTS, "_ _ Q\nQ _ _"), (_LISTS, "[[1, 0], [0, 1]]"),
    (_FORMULAS, "40*(94 - 90) + 83"), (_FORMULAS, "x*asin(3*x) + sqrt(1 - 9*x**2)/3 + C"), (_FORMULAS, "-2.5*y^3"),
])  # fmt: skip
def test_honest_answers_are_read(pattern, answer):
    assert pattern.fullmatch(answer)


@pytest.mark.parametrize(
    "answer", ["exec(1)", "chr(105)", "open(x)", "x.__class__", "x.args", "lambda: 1", "(x for x in x)", "'a'"]
)
def test_no_other_name_is_read_as_a_formula(answer):
    assert not _FORMULAS.fullmatch(answer)


def test_the_scorer_works_in_workers_and_a_wrong_answer_is_not_right():
    environment = ReasoningGym(task="leg_counting", size=30, test_size=20, seed=3)
    assert not gold_failures(environment, "test")
    prompt = environment.prompts("train")[0]
    group = Group(prompt, (), [sample(f" {prompt.answer}\n"), sample("no idea"), sample(f"about {prompt.answer}")])
    assert environment.scorer().isolated
    with RewardSuite([environment.scorer()]) as suite:
        suite.score([group])
    right, wrong, near = (s.reward for s in group.samples)
    assert (right, wrong) == (1.0, 0.0)
    assert 0.0 <= near < 1.0


@pytest.mark.parametrize("task", ["ransom_note"])  # it walks over sets of strings
def test_the_same_table_gives_the_same_prompts_whatever_the_hash_seed(task):
    program = (
        "from tutelage.environments import ReasoningGym; "
        f"e = ReasoningGym(task={task!r}, size=4, test_size=2); "
        "print([(p.id, p.messages, p.answer) for s in ('train', 'test') for p in e.prompts(s)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_task_with_few_questions_repeats_none_in_the_test_split():
    few = {"type": "reasoning-gym", "task": "leg_counting", "config": {"max_animals": 1, "min_animals": 1}}
    environment = build_environment({**few, "size": 200, "test_size": 60}, "e")
    trained = [p.messages[0].content for p in environment.prompts("train")]
    tested = [p.messages[0].content for p in environment.prompts("test")]
    assert len(set(trained)) < len(trained)  # so seeds do meet again
    assert len(set(tested)) == 60
    assert not overlap(environment)
    with pytest.raises(ConfigError, match=r"1000 tries gave \d+ test questions .* not 100: lower size"):
        build_environment({**few, "size": 2000, "test_size": 100}, "e").prompts("test")


def test_instruction_and_tag():
    environment = ReasoningGym(
        task="leg_counting", size=2, test_size=1, instruction="Put the number into <answer> tags.", tag="answer"
    )
    prompt = environment.prompts("train")[0]
    assert prompt.messages[0].content.endswith("\n\nPut the number into <answer> tags.")
    assert environment.demonstration(prompt) == f"<answer>{prompt.answer}</answer>"
    assert not gold_failures(environment, "train")
    assert environment.scorer().score(prompt, sample(prompt.answer)) == 0.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"task": "leg_countin"}, r"e\.task: reasoning-gym has no task 'leg_countin': did you mean 'leg_counting'"),
        (
            {"task": "leg_counting", "config": {"min_animal": 3}},
            r"e\.config: unknown key .* did you mean 'min_animals'",
        ),
        ({"task": "leg_counting", "config": {"min_animals": 30}}, r"e\.config: 'leg_counting' refuses .*max_animals"),
        ({"task": "leg_counting", "siz": 3}, "did you mean 'size'"),
        ({}, r"e\.task"),
    ],
)
def test_a_wrong_table_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        build_environment({"type": "reasoning-gym", **table}, "e")


def test_a_task_that_fails_says_so():
    environment = ReasoningGym(task="leg_counting", config={"min_animals": "x"}, size=1, test_size=1)
    with pytest.raises(TutelageError, match=r"(?s)'leg_counting' failed:.*TypeError"):
        environment.prompts("train")


def test_a_foreign_prompt_is_an_error_not_a_zero():
    reward = GymReward(task="leg_counting")
    environment = ReasoningGym(task="leg_counting", size=1, test_size=1)
    stripped = type(prompt := environment.prompts("train")[0])(prompt.id, prompt.messages, answer="4")
    with pytest.raises(ValueError, match="comes from no reasoning-gym environment"):
        reward.score(stripped, sample("4"))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("tutelage.rewards.gym.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"e: .*pip install 'tutelage\[reasoning-gym\]'"):
        build_environment({"type": "reasoning-gym", "task": "leg_counting"}, "e")
    with pytest.raises(MissingExtraError, match="r: "):
        build_reward({"type": "reasoning-gym", "task": "leg_counting"}, "r")
