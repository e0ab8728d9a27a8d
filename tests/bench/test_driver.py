"""The driver: turns are taken one by one, each process answers for itself, and unequal work is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.alternate import Program, ProgramFailed, alternate
from bench.compare import compare
from bench.settings import Settings


def program(name: str, folder: Path, **spec: object) -> Program:
    return Program(name, "tests.bench.counting", {"name": name, "turns": str(folder / "turns"), **spec})


def test_steps_are_taken_in_turn_and_warm_ups_do_not_count(tmp_path: Path) -> None:
    first, second = alternate([program("a", tmp_path), program("b", tmp_path)], steps=3, warmup=1)
    assert (tmp_path / "turns").read_text().split() == ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]
    assert [step["tokens"] for step in first.steps] == [20, 30, 40]
    assert "odd" in first.steps[1]
    assert first.result()["phases"] == {"loss": round(1 / 3, 4), "tokens": 30}  # what not every step told is left out
    assert len(second.result()["seconds"]) == 3
    assert first.first == {"loss": 1.0, "tokens": 10, "odd": 1.0}
    assert first.facts["settings"]["GOMP_SPINCOUNT"] == second.facts["settings"]["GOMP_SPINCOUNT"] == "1000"


def test_peak_memory_is_the_process_own(tmp_path: Path) -> None:
    mine = bytearray(b"x" * 300_000_000)  # what the driver holds is not what the program held
    large, small = alternate([program("a", tmp_path, bytes=200_000_000), program("b", tmp_path)], steps=1, warmup=0)
    assert 0.4 < large.facts["peak_gb"] < 0.6  # the filling needs it twice
    assert small.facts["peak_gb"] < 0.1
    assert len(mine) == 300_000_000


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"b: ended with status 1\n(?s:.*)the ground gave way"):
        alternate([program("a", tmp_path), program("b", tmp_path, fails_at=2)], steps=2, warmup=1)


def test_a_peer_that_fails_is_a_row_and_ours_an_error(tmp_path: Path) -> None:
    settings = Settings(peer="python", steps=1, warmup=0)
    good, bad = program("peer: good", tmp_path), program("peer: bad", tmp_path, fails_at=1)
    rows = list(compare({"case": "c"}, program("ours", tmp_path), [bad, good], settings))
    assert rows[0] == {"case": "c", "failed": "RuntimeError: the ground gave way", "peer": {"name": "peer: bad"}}
    assert rows[1]["peer"]["phases"]["tokens"] == 10
    with pytest.raises(ProgramFailed, match=r"^ours: "):
        list(compare({"case": "c"}, program("ours", tmp_path, fails_at=1), [good], settings))


@pytest.mark.parametrize(
    ("theirs", "words"),
    [({"learned_tokens": 8}, "learned_tokens is 7 in ours and 8"), ({"loss": 1.02}, "loss is 1.0 in ours and 1.02")],
)
def test_unequal_work_is_refused(tmp_path: Path, theirs: dict[str, float], words: str) -> None:
    settings = Settings(peer="python", steps=1, warmup=1)
    ours, peer = program("ours", tmp_path), program("peer: x", tmp_path, **theirs)
    with pytest.raises(ProgramFailed, match=words):
        list(compare({"case": "c"}, ours, [peer], settings, same_loss=True))


def test_almost_the_same_loss_passes(tmp_path: Path) -> None:
    settings = Settings(peer="python", steps=1, warmup=1)
    ours, peer = program("ours", tmp_path), program("peer: x", tmp_path, loss=1.005)
    (row,) = compare({"case": "c"}, ours, [peer], settings, same_loss=True)
    assert row["ours"]["phases"]["loss"] == 0.5


def test_a_step_that_ended_early_is_refused(tmp_path: Path) -> None:
    ours, peer = program("ours", tmp_path), program("peer: x", tmp_path)
    for interpreter in (None, "python"):
        settings = Settings(peer=interpreter, steps=1, warmup=0)
        (row,) = compare({"case": "c"}, ours, [peer], settings, tokens=10)
        assert row["ours"]["phases"]["tokens"] == 10
        with pytest.raises(ProgramFailed, match="c: ours wrote 10 tokens in a step, not 11"):
            list(compare({"case": "c"}, ours, [peer], settings, tokens=11))
