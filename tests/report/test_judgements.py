"""What is said of runs without evaluations: what was earned, who agrees with people, who won."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.report.factory import write_json
from tutelage.report import build_report, outcome

NUMBERS = {"mean": 0.75, "low": 0.7, "high": 0.8, "n": 40}
PARTS = [{"least": 0.1 * i, "most": 0.1 * i + 0.1, "pairs": 30, **NUMBERS} for i in range(3)]


def run_of(folder: Path, *stages: tuple[str, str, dict[str, Any]]) -> Path:
    declared = {"recipe": {"name": "r", "stage": [{"name": name, "type": kind} for name, kind, _ in stages]}}
    write_json(folder / "recipe.json", declared)
    for number, (name, kind, result) in enumerate(stages, start=1):
        write_json(folder / f"stages/{number:02d}-{name}/result.json", {"type": kind, **result})
    return folder


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{WORD JOINER}", "")


def test_returns_of_policies_that_were_played(tmp_path: Path) -> None:
    scores = {str(i): [float(-100 - i)] for i in range(5)}
    run = run_of(tmp_path, ("after", "play", {"scores": scores}))
    assert outcome(run).startswith("Mean return: after −102.000 (−10")


def test_bits_of_held_out_texts(tmp_path: Path) -> None:
    bits = [{"mean": mean, "low": mean - 0.04, "high": mean + 0.04, "n": 40} for mean in (1.913, 1.5)]
    run = run_of(tmp_path, *((name, "pretrain", {"bits_per_byte": bit}) for name, bit in zip("ab", bits, strict=True)))
    assert outcome(run) == "Held-out texts: a 1.913 bits a byte (1.873–1.953), b 1.500 bits a byte (1.460–1.540)."
    build_report(run)


def test_agreement_with_people(tmp_path: Path) -> None:
    agreement = {"pairs": 90, "accuracy": NUMBERS, "by_margin": PARTS, "calibration_error": 0.04, "people": 0.87}
    run = run_of(tmp_path, ("reward", "reward-model", {"steps": 3, "agreement": agreement}))
    assert outcome(run) == "In the order of people's judgements, held out: reward 75 % (70–80) of 90 pairs."
    page = plain(build_report(run).read_text())
    assert "One rater with the others" in page
    assert "87 %" in page
    assert "0.040" in page


def test_how_far_length_decides(tmp_path: Path) -> None:
    parts = {"longer_is_better": {"pairs": 60, **NUMBERS}, "shorter_is_better": {"pairs": 0}}
    length = {"scores": -0.314, "judged": None, **parts}
    agreement = {"pairs": 90, "accuracy": NUMBERS, "by_margin": PARTS, "calibration_error": 0.04, "length": length}
    before = {key: value for key, value in agreement.items() if key != "length"}  # by a version that did not ask
    run = run_of(
        tmp_path, ("new", "reward-model", {"agreement": agreement}), ("before", "reward-model", {"agreement": before})
    )
    page = plain(build_report(run).read_text())
    row = page.split("How far length decides")[1].split("<tbody>")[1]
    told = ["−0.31", "none", "75 % (70–80)", "no pairs", "", "", "", ""]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row)[:8] == told


def test_a_comparison_is_told_before_all_others(tmp_path: Path) -> None:
    found = {
        "sft": {"scores": {"gold": NUMBERS}, "length": 20.0, "kl": 0.0, "beats": {"ppo": {"gold": NUMBERS}}},
        "ppo": {"scores": {"gold": NUMBERS}, "beats": {"sft": {"gold": NUMBERS}}, "length": 18.0, "kl": 3.25},
    }
    agreement = {"pairs": 90, "accuracy": NUMBERS, "by_margin": PARTS, "calibration_error": 0.04}
    compared = {"against": "sft", "questions": 40, "contestants": found}
    run = run_of(tmp_path, ("reward", "reward-model", {"agreement": agreement}), ("whose", "compare", compared))
    assert outcome(run) == "ppo beats sft in 75 % (70–80) by gold."
    page = plain(build_report(run).read_text())
    assert "Comparison: whose" in page
    assert "3.25" in page
