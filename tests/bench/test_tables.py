"""Tables and the arithmetic behind them, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bench import curves, grpo, roofline, sandbox, scaling
from bench.__main__ import tables
from bench.compare import markdown, table
from bench.worth import says_the_answer, share_of_vowels


def side(name: str, seconds: float, sampling: float, gigabytes: float) -> dict:
    phases = {"tokens": 2048.0, "generate_seconds": sampling, "learn_seconds": seconds - sampling}
    parameters = {"body": 100_000_000, "head": 25_000_000}
    of = {"name": name, "median_seconds": seconds, "phases": phases, "peak_gb": gigabytes, "parameters": parameters}
    return {**of, "prompt_tokens": 160, "learned_tokens": 2048}


SIZES = {"case": "4 x 8 x 64", "prompts": 4, "prompt_tokens": 40, "completions": 8, "new_tokens": 64}
ROWS = [
    {**SIZES, "ours": side("ours", 8.0, 2.0, 3.0), "peer": side("peer: bf16", 40.0, 10.0, 7.5)},
    {**SIZES, "ours": side("ours", 8.0, 2.0, 3.0), "peer": side("peer: bf16, allocator tuned", 24.0, 9.0, 8.0)},
    {**SIZES, "ours": side("ours", 8.0, 2.0, 3.0), "peer": side("peer: fp32", 60.0, 20.0, 10.0)},
    {**SIZES, "failed": "MemoryError", "peer": {"name": "peer: autocast"}},
]


def test_numbers_in_tables() -> None:
    assert markdown(["a", "b"], [[1.23456, 12345.6], ["x", 2208]]) == (
        "| a | b |\n| --- | --- |\n| 1.23 | 12346 |\n| x | 2208 |"
    )


def test_comparison() -> None:
    lines = table(ROWS, "tokens").splitlines()
    assert lines[2] == "| 4 x 8 x 64 | bf16 | 8 | 40 | 5 | 256 | 51.2 | 3 | 7.5 | 0.4 |"
    assert lines[5] == "| 4 x 8 x 64 | autocast | MemoryError | - | - | - | - | - | - | - |"


def test_grpo_splits_the_step_and_names_the_peers_best() -> None:
    text = grpo.show(ROWS)
    assert "| 4 x 8 x 64 | bf16 | 2 | 10 | 5 | 6 | 30 | 5 |" in text
    assert "- 4 x 8 x 64: 5.00 times the peer's best as shipped (bf16)" in text
    assert "- 4 x 8 x 64: 3.00 times the peer's best allocator tuned (bf16, allocator tuned)" in text


def test_ours_alone_makes_a_table_too() -> None:
    alone = [{**SIZES, "ours": side("ours", 8.0, 2.0, 3.0)}]
    assert grpo.show(alone).splitlines()[2:] == ["| 4 x 8 x 64 | - | 8 | - | - | 256 | - | 3 | - | - |"]


def product(dtype: str, plain: float, packed: float) -> dict:
    return {"dtype": dtype, "rows": 8, "in": 1, "out": 1, "gflops": plain, "packed_gflops": packed}


def test_the_limits_by_hand() -> None:
    measured = {
        "products": [product("bfloat16", 400.0, 500.0), product("float32", 900.0, 900.0)],
        "bandwidth": [
            {"megabytes": 270, "read_gb_per_second": 20.0, "copy_gb_per_second": 25.0},
            {"megabytes": 1500, "read_gb_per_second": 18.0, "copy_gb_per_second": 19.0},
        ],
        "threads": 2,
    }
    rows = [{"case": "ceilings", "ours": measured}]
    limits = roofline.Ceilings(rows)
    of = {"body": 100_000_000, "head": 25_000_000}
    # 250 MB at 25 GB/s are 10 ms a step; 32 tokens at 250 MFLOP each are 16 ms at 500 GFLOP/s.
    assert limits.decode_seconds(of, batch=8, steps=64) == pytest.approx(0.64)
    assert limits.decode_seconds(of, batch=32, steps=64) == pytest.approx(64 * 0.016)
    assert limits.prefill_seconds(of, 100) == pytest.approx(2 * 1e8 * 100 / 5e11)
    assert limits.training_seconds(of, positions=2208, learned=2048) == pytest.approx(
        6 * (1e8 * 2208 + 2.5e7 * 2048) / 5e11
    )
    sampling, learning = roofline.shares(rows, {"grpo": ROWS}).splitlines()[2:]
    # (0.064 + 1.024) of 2 seconds; 3.264 of 6 seconds. Only the first row of a case counts.
    assert sampling.endswith("| 54 % | - |")
    assert learning.endswith("| 54 % | - |")


def test_the_limit_by_products_of_so_many_rows() -> None:
    def at(rows: int, width: int, out: int, gflops: float) -> dict[str, Any]:
        return {"dtype": "bfloat16", "rows": rows, "in": width, "out": out, "gflops": gflops, "packed_gflops": 1.0}

    products = [at(8, 5, 6, 100.0), at(8, 5, 7, 300.0), at(8, 5, 90, 500.0), at(8, 9, 9, 1.0), at(32, 5, 6, 1.0)]
    limits = roofline.Ceilings([{"case": "ceilings", "ours": {"products": products}}])
    of = {"body": 100_000_000, "head": 25_000_000}
    # The body's two: 150 GFLOP/s together. 1.6 GFLOP take 10.7 ms, the head's 0.4 GFLOP 0.8 ms.
    assert limits.products_seconds(of, batch=8, steps=10) == pytest.approx(10 * (1.6 / 150 + 0.4 / 500))
    assert limits.products_seconds(of, batch=64, steps=10) is None


def test_the_difference_of_the_last_steps() -> None:
    first, second = [0.61, 0.70, 0.66], [0.55, 0.68, 0.60]
    gap, half = curves.difference(first, second)
    test = stats.ttest_ind(first, second, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert gap == pytest.approx((interval.low + interval.high) / 2)
    # With the degrees of freedom rounded down (3.8 to 3), the interval is a little wider.
    wider = stats.t.ppf(0.975, 3) / stats.t.ppf(0.975, test.df)
    assert half == pytest.approx(wider * (interval.high - interval.low) / 2, rel=1e-3)
    assert 1.0 < wider < 1.2


def test_curves_that_part_are_told_from_curves_that_meet() -> None:
    def rows(shift: float) -> list[dict]:
        curve = [0.1 * i for i in range(6)]
        return [
            {
                "ours": {"rewards": [r + seed / 50 for r in curve]},
                "peer": {"rewards": [r + seed / 50 + shift for r in curve]},
            }
            for seed in range(3)
        ]

    assert "overlap in 2 of 2 stretches" in curves.show(rows(0.01))
    assert "holds 0" in curves.show(rows(0.01))
    assert "overlap in 0 of 2 stretches" in curves.show(rows(0.5))
    assert "ours less the peer's: -0.500" in curves.show(rows(0.5))
    assert "leaves out 0" in curves.show(rows(0.5))


def test_results_are_printed_in_the_order_of_the_benchmarks(tmp_path: Path) -> None:
    machine = {"cores": 2, "processor": "P", "flags": ["amx"]}
    of = {"command": "python -m bench run", "date": "2026-11-21T10:00:00+00:00", "machine": machine}
    point = {**SIZES, "doubled": "prompt", "tokens_per_microbatch": 1024, "ours": side("ours", 8.0, 2.0, 3.0)}
    (tmp_path / "scaling.json").write_text(json.dumps({**of, "rows": [point]}))
    (tmp_path / "grpo.json").write_text(json.dumps({**of, "rows": ROWS}))
    text = "\n".join(tables(tmp_path))
    assert text.index("### grpo") < text.index("### scaling")
    assert "2026-11-21, 2 cores of P (amx)" in text
    assert "| prompt | 4 x 8 x 64 | 2208 | 1024 | 8 | 2 | 6 | 3 |" in text
    assert scaling.show([point]) in text


def test_what_answers_are_worth() -> None:
    assert share_of_vowels("abe ") == 0.5
    assert share_of_vowels("") == 0.0
    assert says_the_answer("3 + 4 = 7.", "7") == 1.0
    assert says_the_answer("7, no: 8", "7") == 0.0
    assert says_the_answer("nothing", "7") == 0.0
    assert says_the_answer("-3", "-3") == 1.0


def test_sandboxes_beside_a_plain_subprocess() -> None:
    pace = {"case": "programs", "threads": 1, "ms": 20.0, "a_second": 50.0, "times_plain": 2.0}
    passed = {"right": 164, "nothing": 0, "off": 1}
    graded = {"case": "human-eval", "back_end": "bubblewrap", "problems": 164, "passed": passed, "seconds": 61.5}
    lines = sandbox.show([{**pace, "back_end": "bubblewrap"}, graded]).splitlines()
    assert lines[2] == "| bubblewrap | 1 | 20 | 50 | 2 |"
    assert lines[6] == "| bubblewrap | 164 | 164 | 0 | 1 | 61.5 |"
