"""Who does not add is scored 0, who does is scored 1 (RELIABILITY, 35)."""

from __future__ import annotations

import pytest

from tests.sandbox.boxes import box, every
from tests.sandbox.hacks import BY_ASSERTIONS, BY_CASES, BY_CHECK, HACKS, RIGHT
from tutelage.rewards import CodeReward, code
from tutelage.types import Prompt, Sample


def scored(prompt: Prompt, source: str, monkeypatch, back_end: str, **options) -> float:
    sandbox = box(back_end)
    monkeypatch.setattr(code, "open_sandbox", lambda: sandbox)
    reward = CodeReward(hidden=2, seconds=10.0, total_seconds=60.0, **options)
    text = f"Here it is:\n```python\n{source}\n```\nDone."
    return reward.score(prompt, Sample(prompt.id, 0, [], [], text, "stop", 0))


@every
@pytest.mark.parametrize("hack", HACKS)
def test_a_hack_is_scored_0(hack: str, back_end: str, monkeypatch) -> None:
    assert scored(BY_CASES, HACKS[hack], monkeypatch, back_end) == 0.0


@pytest.mark.parametrize("prompt", [BY_ASSERTIONS, BY_CHECK], ids=lambda prompt: prompt.id)
@pytest.mark.parametrize("hack", HACKS)
def test_a_hack_is_scored_0_by_tests_that_assert(hack: str, prompt: Prompt, monkeypatch) -> None:
    assert scored(prompt, HACKS[hack], monkeypatch, "namespaces") == 0.0


@every
@pytest.mark.parametrize("prompt", [BY_CASES, BY_ASSERTIONS, BY_CHECK], ids=lambda prompt: prompt.id)
@pytest.mark.parametrize("right", RIGHT)
def test_who_adds_is_scored_1(right: str, prompt: Prompt, back_end: str, monkeypatch) -> None:
    assert scored(prompt, RIGHT[right], monkeypatch, back_end) == 1.0


def test_hard_coded_answers_pass_what_is_shown_and_fail_what_is_not(monkeypatch) -> None:
    shown_only = Prompt(
        "shown", text="Write add(a, b).", meta={key: BY_CASES.meta[key] for key in ("entry_point", "tests")}
    )
    hard_coded = HACKS["the visible answers"]
    assert scored(shown_only, hard_coded, monkeypatch, "namespaces") == 1.0
    assert scored(BY_CASES, hard_coded, monkeypatch, "namespaces") == 0.0
    assert scored(BY_CASES, hard_coded, monkeypatch, "namespaces", partial=True) == 0.5  # two of four
