"""Following: what is new and nothing twice, files that are cut back, and an end."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report.factory import add_sample, append, write_json, write_run
from tutelage.report.follow import Follower, Tail, warning


def test_a_tail_gives_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    tail = Tail(path)
    assert tail.new() == ([], False)
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    assert tail.new() == ([{"a": 1}, {"a": 2}], True)
    assert tail.new() == ([], False)
    with path.open("a") as file:
        file.write('3}\nnot json\n[4]\n{"a": 5}\n')
    assert tail.new() == ([{"a": 3}, {"a": 5}], False)


def test_a_file_that_was_cut_back_or_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    tail = Tail(path)
    tail.new()
    with path.open("r+") as file:  # as a resume does
        file.truncate(9)
    assert tail.new() == ([{"a": 1}], True)
    other = tmp_path / "other"
    other.write_text('{"b": 1}\n{"b": 2}\n{"b": 3}\n')
    other.replace(path)
    assert tail.new() == ([{"b": 1}, {"b": 2}, {"b": 3}], True)


def test_of_a_large_file_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"i": i}) + "\n" for i in range(1000)))
    rows, _ = Tail(path, most=100).new()
    assert rows[-1] == {"i": 999}
    assert 5 < len(rows) < 12


def test_a_run_from_nothing_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    follower = Follower(folder)
    assert not follower.look()
    assert follower.seen.stages == ()
    write_run(folder, questions=3, steps=2, until="before")
    assert follower.look()
    seen = follower.seen
    assert (seen.name, seen.place, seen.current) == ("quickstart", 2, {"name": "learn", "type": "rl", "steps": 30})
    assert not seen.done
    assert len(seen.samples) == 3
    append(folder / "metrics.jsonl", {"stage": "learn", "step": 1, "reward": 0.5})
    append(folder / "events.jsonl", {"stage": "learn", "step": 1, "guard": "kl", "action": "warn", "why": "it rises"})
    add_sample(folder, "learn", 1, "p", 0, "1 + 1", "2", "2", 1.0)
    assert follower.look()
    assert seen.rows == [{"stage": "learn", "step": 1, "reward": 0.5}]
    assert seen.samples[-1]["text"] == "2"
    assert warning(seen.events[-1]) == "learn, step 1: warning: guards.kl: it rises"
    assert not follower.look()
    for stage in ("02-learn", "03-after"):
        write_json(folder / "stages" / stage / "result.json", {})
    assert follower.look()
    assert seen.done
