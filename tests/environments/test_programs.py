"""Programs are computed as they are written, and never run; who proposes and who solves earn what the paper says."""

from __future__ import annotations

from random import Random

import pytest

from tutelage.environments import Programs, Turn, build_environment, gold_failures, overlap
from tutelage.environments.programs import SEED, UNREADABLE, WRONG, learnability
from tutelage.errors import ConfigError
from tutelage.rewards.program import MOST, ProgramError, value_of
from tutelage.types import Group, Sample


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("7", 7),
        ("1 + 2 * 3 - 4", 3),
        ("2 - 3 - 4", -5),
        ("-(2 + 3) * -4", 20),
        ("--5", 5),
        ("a = 3\n\n b_2 =a*a\nb_2 - a", 6),
        ("a = 1\na = a + a\na = a * 7\na", 14),
        (SEED, 2),
    ],
)
def test_values_by_hand(program: str, value: int) -> None:
    assert value_of(program) == value


def test_random_expressions_have_the_value_that_they_were_built_with() -> None:
    def built(random: Random, depth: int) -> tuple[str, int, int]:
        """Text, value, and how tightly its outermost sign binds."""
        if depth == 0 or random.random() < 0.2:
            number = random.randint(0, 9)
            return str(number), number, 3
        sign = random.choice("+-*")
        (left, a, tight), (right, b, close) = built(random, depth - 1), built(random, depth - 1)
        own = 2 if sign == "*" else 1
        left = f"({left})" if tight < own else left
        right = f"({right})" if close < own or (sign == "-" and close == own) else right
        return f"{left} {sign} {right}", {"+": a + b, "-": a - b, "*": a * b}[sign], own

    for seed in range(300):
        text, value, _ = built(Random(seed), 4)
        assert value_of(text) == value, text


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("", "ends too early"),
        ("a = 1", "'= 1' is not of this language"),
        ("a + 1", "'a' has no value here"),
        ("1 +", "ends too early"),
        ("(1 + 2", "not closed"),
        ("1 + 2)", "one too many"),
        ("2 ** 3", "has no value here"),
        ("4 / 2", "not of this language"),
        ("__import__('os')", "not of this language"),
        ("print(1)\n2", "'print\\(1\\)' is no assignment"),
        ("a.b = 1\n2", "'a.b = 1' is no assignment"),
        ("1 == 1\n2", "no assignment"),
        ("1.5", "not of this language"),
        ("٣", "not of this language"),
        (f"{MOST} + 1", "beyond 1,000,000,000"),
        ("a = 99999\nb = a * a\nb * 0", "beyond"),
        ("(" * 60 + "1" + ")" * 60, "within one another"),
        ("-" * 5000 + "1", "within one another"),
    ],
)
def test_what_is_no_program_is_refused_and_says_why(program: str, why: str) -> None:
    with pytest.raises(ProgramError, match=why):
        value_of(program)


@pytest.mark.parametrize(("rate", "worth"), [(0.0, 0.0), (0.125, 0.875), (0.5, 0.5), (0.875, 0.125), (1.0, 0.0)])
def test_a_proposal_is_worth_most_where_it_can_hardly_be_solved(rate: float, worth: float) -> None:
    assert learnability(rate) == worth


def answers(turn: Turn, *texts: str) -> Group:
    assert turn.answers == len(texts)
    return Group(turn.prompt, (1,), [Sample("p", i, [1], [0.0], text, "stop", 0) for i, text in enumerate(texts)])


def rewards(group: Group) -> list[float | None]:
    return [sample.reward for sample in group.samples]


def test_a_step_of_proposing_and_solving() -> None:
    environment, found = Programs(test_questions=5), [SEED]
    held_out = environment.prompts("test")[0].messages[0].content.split("\nWhat is")[0]
    play = environment.play(range(20, 26), 4, 0, found)
    turns = play.send(None)
    assert [(turn.role, turn.answers) for turn in turns] == [("propose", 1)] * 6
    assert SEED in turns[0].prompt.messages[0].content
    said = [
        "Here it is:\n```\na = 6 * 7\na - 2\n```",
        "```python\n  2 + 2\n```",
        "2 + 2",  # not between marks
        "```\nprint(1)\n```",
        f"```\n{held_out}\n```",
        "```\n2 + 2\n```",
    ]
    proposals = [answers(turn, text) for turn, text in zip(turns, said, strict=True)]
    turns = play.send(proposals)
    assert [(turn.role, turn.prompt.answer) for turn in turns] == [("solve", "40"), ("solve", "4"), ("solve", "4")]
    assert len({turn.prompt.id for turn in turns}) == 3
    solved = [
        answers(turns[0], "42 - 2 = 40", "42", "no idea", "41"),
        answers(turns[1], "4", "4", "4", "4"),
        answers(turns[2], "5", "6", "7", "8"),
    ]
    with pytest.raises(StopIteration):
        play.send(solved)
    assert rewards(solved[0]) == [1.0, WRONG, UNREADABLE, WRONG]
    assert rewards(solved[1]) == [1.0] * 4
    assert [rewards(group) for group in proposals] == [[0.75], [0.0], [UNREADABLE], [WRONG], [WRONG], [0.0]]
    assert [group.samples[0].rewards["valid"] for group in proposals] == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert [group.samples[0].episode for group in proposals] == [20, 21, 22, 23, 24, 25]
    assert [sample.episode for sample in solved[2].samples] == [25] * 4
    assert found == [SEED, "a = 6 * 7\na - 2", "2 + 2"]


def test_a_step_without_a_valid_proposal_ends_there() -> None:
    environment, found = Programs(), list[str]()
    play = environment.play(range(2), 4, 0, found)
    (first, second) = play.send(None)
    assert SEED in first.prompt.messages[0].content
    proposals = [answers(first, "no"), answers(second, "```\n1 / 2\n```")]
    with pytest.raises(StopIteration):
        play.send(proposals)
    assert [rewards(group) for group in proposals] == [[UNREADABLE], [WRONG]]
    assert found == []


def test_who_proposes_is_shown_some_of_what_was_found_drawn_by_the_seed() -> None:
    found = [f"{i} + {i}" for i in range(30)]
    environment = Programs(references=2)

    def shown(seed: int) -> list[str]:
        turns = environment.play(range(3), 2, seed, found).send(None)
        return [turn.prompt.messages[0].content for turn in turns]

    assert shown(1) == shown(1) != shown(2)
    assert len(set(shown(1))) == 3
    assert sum(f"```\n{program}\n```" in shown(1)[0] for program in found) == 2


def test_questions_by_rule_are_right_and_held_out() -> None:
    environment = build_environment({"type": "programs", "lines": 3}, "environments.p")
    for split in ("train", "test"):
        assert gold_failures(environment, split, 100) == []
    assert overlap(environment) == []
    assert len(environment.prompts("train")), len(environment.prompts("test")) == (512, 200)
    assert Programs(train_questions=5).prompts("test") == Programs().prompts("test")
    lines = {prompt.messages[0].content.count("\n") for prompt in environment.prompts("test")}
    assert lines == {2, 3, 4}  # with the question itself: one to three assignments
    with pytest.raises(ConfigError, match=r"environments\.p: train_questions .* hardly more than .*raise these"):
        build_environment({"type": "programs", "lines": 1, "maximum": 1}, "environments.p")


def test_the_examples_are_as_long_as_prompts_can_be() -> None:
    environment = Programs(characters=30, references=3)
    found = ["1 + " * 6 + "123456"] * 3
    asked = environment.play(range(1), 2, 0, found).send(None)[0].prompt.messages[0].content
    longest = max(len(prompt.messages[0].content) for prompt in environment.examples())
    assert longest - 3 <= len(asked) <= longest + 3


@pytest.mark.parametrize(
    "text", ["```\nx = 1\nx + 2\n```", "```python3\nx = 1\nx + 2```", "``` \nx = 1\nx + 2\n```", "```x = 1\nx + 2```"]
)
def test_a_program_is_found_however_its_marks_are_written(text: str) -> None:
    assert Programs().program_in(f"Here: {text} done") == "x = 1\nx + 2"
