"""Contamination against a plain search of every stretch of words."""

from __future__ import annotations

from random import Random

from tutelage.data.contamination import LENGTHS, contamination


def plainly(questions: list[str], texts: list[str], n: int) -> int:
    def stretches(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    trained = set().union(*map(stretches, texts))
    return sum(bool(stretches(question) & trained) for question in questions)


def test_it_is_what_a_plain_search_finds() -> None:
    chance = Random(0)
    words = [f"w{i}" for i in range(400)]
    questions = [" ".join(chance.choices(words, k=chance.randint(4, 30))) for _ in range(60)]
    texts = [" ".join(chance.choices(words, k=80)) for _ in range(40)]
    for i in (3, 11, 20):  # planted: a part of a question, in the middle of a text
        part = questions[i].split()[:9]
        texts[i] = " ".join([*texts[i].split()[:40], *part, "x"])
    texts.append(questions[5].upper() + "  ")
    found = contamination(questions, texts)
    assert (found.questions, found.texts, found.exact) == (60, 41, 1)
    texts[-1] = texts[-1].lower()
    assert found.shared == {n: plainly(questions, texts, n) for n in LENGTHS}
    assert found.shared[8] >= 2


def test_wording_that_all_questions_share_is_no_contamination() -> None:
    wording = "Think step by step and then give your final answer between the two tags answer and answer"
    questions = [f"What is {i} + {i}? {wording}" for i in range(50)]
    texts = [f"What is {i} + {i + 100}? {wording}" for i in range(50)]
    found = contamination(questions, texts)
    assert (found.exact, found.shared) == (0, {13: 0, 8: 0})
    assert contamination(questions[:5], [*texts[:3], questions[0]]).exact == 1


def test_nothing_is_asked_or_trained_on() -> None:
    assert contamination([], ["a"]).numbers == {"questions": 0, "texts": 1, "exact": 0, "shared_13": 0, "shared_8": 0}
    assert contamination(["a b"], []).exact == 0
