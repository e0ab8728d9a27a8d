"""The guards' decisions, on numbers alone."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.config import Guard, Guards, RlGuards, RlStage, validate
from tutelage.errors import ConfigError
from tutelage.training.guards import Verdict, doubtful, judge, may_roll_back

OFF = dict.fromkeys((name for name, f in RlGuards.model_fields.items() if f.annotation is Guard), "off")


def only(**guards: Any) -> RlGuards:
    return RlGuards.model_validate({**OFF, **guards})


def history(**columns: list[float | None]) -> list[dict[str, float]]:
    length = len(next(iter(columns.values())))
    return [
        {"step": i + 1.0, **{name: value for name, values in columns.items() if (value := values[i]) is not None}}
        for i in range(length)
    ]


def fired(guards: Guards, steps: list[dict[str, float]], compute: str = "fp32") -> list[Verdict]:
    return [verdict for end in range(1, len(steps) + 1) for verdict in judge(steps[:end], guards, compute)]


@pytest.mark.parametrize(
    ("guards", "columns", "expected"),
    [
        # Each: where it is certain, and since when.
        ({"kl": {"limit": 2.0, "steps": 3}}, {"kl": [1.0, 2.1, 2.1, 2.0, 3.0, 3.0, 3.0]}, [(7, 5)]),
        ({"kl": {"limit": 2.0, "steps": 2}}, {"kl": [3.0, 3.0, 3.0, 1.0, 3.0, 3.0]}, [(2, 1), (6, 5)]),  # once a row
        ({"kl": {"limit": 2.0, "steps": 2}}, {"kl": [3.0, None, 3.0, None]}, [(3, 1)]),  # a step without counts not
        ({"kl": {"limit": 2.0, "steps": 1}}, {"kl": [float("nan"), 1.0, float("inf")]}, [(1, 1), (3, 3)]),
        ({"entropy": {"limit": 0.01, "steps": 2}}, {"entropy": [0.5, 0.009, 0.02, 0.009, 0.0]}, [(5, 4)]),
        ({"clipped": {"limit": 0.5, "steps": 1}}, {"clipped": [0.5, 0.51]}, [(2, 2)]),
        ({"mismatch": "stop"}, {"mismatch": [9e-6, 9.9e-5, 1.1e-4]}, [(3, 3)]),
        ({"mismatch": {"limit": 0.5, "action": "stop"}}, {"mismatch": [0.4, 0.6]}, [(2, 2)]),
        ({"mismatch_max": "stop"}, {"mismatch_max": [2e-3, 2.9e-5, 2e-3, 2e-3, 2e-3]}, [(5, 3)]),
        ({"grad_norm": 10.0}, {"grad_norm": [1.0] * 9 + [11.0]}, []),  # fewer than ten before it tell nothing
        ({"grad_norm": 10.0}, {"grad_norm": [1.0] * 5 + [0.0] * 5 + [2.0] * 5 + [14.0, 21.0]}, [(17, 17)]),
        (
            {"length": {"limit": 3.0, "steps": 1}},
            {"length": [10.0] * 10 + [29.0, 31.0, 3.4, 3.2]},
            [(12, 12), (14, 14)],
        ),
        ({"credit": {"limit": 0.5, "steps": 3}}, {"credit": [-1.0, -0.6, 0.9, -0.6, -0.9, -1.0]}, [(6, 4)]),
        ({"spread": {"limit": 1.0, "steps": 2}}, {"zero_spread_groups": [0.9, 1.0, 1.0]}, [(3, 2)]),
        ({"failed": {"limit": 0.1, "steps": 2}}, {"failed_share": [0.2, 0.1, 0.2, 0.11]}, [(4, 3)]),
    ],
)
def test_when_a_guard_fires(guards: Any, columns: Any, expected: list[tuple[int, int]]) -> None:
    verdicts = fired(only(**guards), history(**columns))
    assert [(verdict.step, verdict.since) for verdict in verdicts] == expected
    assert {verdict.guard for verdict in verdicts} <= guards.keys()


def test_bf16_is_allowed_what_it_was_measured_to_do_and_no_bug() -> None:
    measured = history(mismatch=[0.036, 0.016], mismatch_max=[0.29, 0.61])
    assert fired(RlGuards(), measured, "bf16") == []
    assert {verdict.guard for verdict in fired(RlGuards(), measured, "fp32")} == {"mismatch"}
    assert fired(RlGuards(), history(mismatch_max=[0.5, 6.1, 0.5, 6.1]), "bf16") == []  # single tokens, rounded
    for largest in (3.6, 4.2, 20.0):  # temperature, mask, shift: in every step
        assert [v.step for v in fired(RlGuards(), history(mismatch_max=[largest] * 3), "bf16")] == [3]


def test_a_reward_that_falls_is_told_from_one_that_wavers() -> None:
    wavers = [0.5, 0.4, 0.6, 0.45, 0.55] * 12
    assert fired(only(reward="warn"), history(reward=wavers)) == []
    rises = [0.5 + 0.01 * i + (0.05 if i % 2 else -0.05) for i in range(40)]
    assert fired(only(reward="warn"), history(reward=rises)) == []
    falls = wavers[:20] + [value - 0.4 for value in wavers[:20]]
    (verdict,) = fired(only(reward="warn"), history(reward=falls))
    assert 26 <= verdict.step <= 32
    assert "below the best" in verdict.why


def test_what_is_switched_off_never_fires() -> None:
    everything = history(kl=[99.0], entropy=[0.0], mismatch=[9.0], credit=[-1.0])
    assert fired(RlGuards.model_validate(OFF), everything) == []
    assert fired(Guards(), everything) == []  # those of a stage that is no reinforcement


def test_a_step_beyond_the_limit_is_none_to_go_back_to_before_it_is_certain() -> None:
    steps = history(kl=[1.0, 3.0])
    assert doubtful(steps, RlGuards(), "fp32")
    assert not doubtful(steps[:1], RlGuards(), "fp32")
    assert not doubtful(steps, only(kl={"action": "stop"}), "fp32")
    assert may_roll_back(RlGuards())
    assert not may_roll_back(RlGuards(rollbacks=0))
    assert not may_roll_back(Guards())
    assert may_roll_back(Guards(non_finite="roll-back"))


def test_a_number_is_a_limit_and_a_word_an_action() -> None:
    own = validate(RlGuards, {"kl": 0.5, "entropy": "off", "clipped": {"steps": 7}}, "guards")
    assert own.kl == Guard(limit=0.5, action="roll-back", steps=3)
    assert own.entropy == Guard(limit=0.01, action="off", steps=5)
    assert own.clipped == Guard(limit=0.5, action="warn", steps=7)
    again = RlStage(type="rl", name="rl", environment="e", guards=own)
    assert RlStage.model_validate(again.model_dump(mode="json")) == again
    for wrong, hint in (
        ({"kl": "rollback"}, "'roll-back'"),
        ({"entropie": 1}, "did you mean 'entropy'"),
        ({"kl": {"limits": 1}}, "did you mean 'limit'"),
        ({"kl": -1.0}, "greater than or equal to 0"),
    ):
        with pytest.raises(ConfigError, match=hint):
            validate(RlGuards, wrong, "guards")
