"""The environment `arithmetic`: right answers, disjoint splits, seeds, and refusals with figures."""

import re
import subprocess
import sys

import pytest

from tutelage.environments import Arithmetic, build_environment, gold_failures, overlap
from tutelage.errors import ConfigError


def expressions(environment, split):
    return [
        re.search(r"is (-?\d+) ([-+*]) (-?\d+)\?", p.messages[0].content).groups() for p in environment.prompts(split)
    ]


TABLES = [
    {},
    {"operators": ["-"], "minimum": 0, "maximum": 9, "train_questions": 40, "test_questions": 15},
    {
        "operators": ["-"],
        "minimum": 3,
        "maximum": 9,
        "negative_results": True,
        "train_questions": 20,
        "test_questions": 10,
    },
    {"operators": ["*"], "minimum": -5, "maximum": 5, "train_questions": 50, "test_questions": 20},
    {"digits": 1, "train_questions": 100, "test_questions": 50},
    {"digits": 15, "train_questions": 100, "test_questions": 50},
    {"minimum": 0, "maximum": 12, "train_questions": 200, "test_questions": 150},
]


@pytest.mark.parametrize("table", TABLES)
def test_the_splits_are_whole_disjoint_and_right(table):
    environment = build_environment({"type": "arithmetic", **table}, "e")
    train, test = expressions(environment, "train"), expressions(environment, "test")
    assert len(set(train)) == len(train) == environment.train_questions
    assert len(set(test)) == len(test) == environment.test_questions
    swapped = {(b, op, a) for a, op, b in test}
    assert not set(train) & (set(test) | swapped)
    assert not overlap(environment)
    low, high = environment.operands
    for split in ("train", "test"):
        for prompt, (a, op, b) in zip(environment.prompts(split), expressions(environment, split), strict=True):
            assert low <= int(a) <= high
            assert low <= int(b) <= high
            assert prompt.answer == str(eval(f"({a}) {op} ({b})"))
            assert environment.negative_results or op != "-" or int(prompt.answer) >= 0
        assert not gold_failures(environment, split)


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("operators", [("+",), ("-",), ("-", "*"), ("*", "+", "-")])
def test_every_question_has_one_place(operators, negative):
    environment = Arithmetic(operators=operators, minimum=-3, maximum=4, negative_results=negative)
    size = sum(environment._size(op) for op in operators)
    questions = {environment._question(place) for place in range(size)}
    wanted = {
        (a, op, b) for op in operators for a in range(-3, 5) for b in range(-3, 5) if negative or op != "-" or a >= b
    }
    assert questions == wanted
    assert size == len(wanted)


def test_the_same_seed_gives_the_same_questions_in_another_process():
    program = (
        "from tutelage.environments import Arithmetic; e = Arithmetic(seed=3); "
        "print([p.id for s in ('train', 'test') for p in e.prompts(s)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    environment = Arithmetic(seed=3)
    assert done.stdout.strip() == str([p.id for split in ("train", "test") for p in environment.prompts(split)])


def test_another_seed_gives_other_questions_and_the_test_split_is_the_seeds_alone():
    assert Arithmetic(seed=1).prompts("test") != Arithmetic(seed=2).prompts("test")
    assert Arithmetic(train_questions=10).prompts("test") == Arithmetic(train_questions=300).prompts("test")


def test_the_wording_is_the_recipes():
    environment = Arithmetic(question="{expression} =")
    assert re.fullmatch(r"\d+ [-+*] \d+ =", environment.prompts("train")[0].messages[0].content)
    assert Arithmetic().prompts("train")[0].messages[0].content.endswith("? Answer with just the number.")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"maximum": 5}, r"e: train_questions \+ test_questions = 712, but only 93 different questions exist with "
                         "operands of 0 to 5: widen"),
        ({"operators": ["+"], "maximum": 9, "train_questions": 60, "test_questions": 40},
         r"e: train_questions = 60, but of 100 different questions \d+ are left"),
        ({"question": "What?"}, r"must hold \{expression\}"),
        ({"digits": 2, "maximum": 5}, "either digits or"),
        ({"minimum": 9, "maximum": 5}, "above maximum"),
        ({"operators": ["/"]}, r"e\.operators\[0\]"),
        ({"operators": []}, r"e\.operators"),
        ({"operators": ["+", "+"]}, "only once"),
        ({"operator": ["+"]}, "did you mean 'operators'"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        build_environment({"type": "arithmetic", **table}, "e")
