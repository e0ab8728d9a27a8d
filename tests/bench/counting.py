"""A measured program that writes its turns into a file: `python -m tests.bench.counting SPEC.json`."""

from __future__ import annotations

from pathlib import Path

from bench.pace import Pace, read_spec


def main() -> None:
    pace, spec = Pace(), read_spec()
    print("libraries may print what they like")
    held = bytearray(b"x" * spec.get("bytes", 0))
    pace.note(held=len(held), learned_tokens=spec.get("learned_tokens", 7))
    steps, going = 0, pace.ready()
    while going:
        steps += 1
        if steps == spec.get("fails_at"):
            raise RuntimeError("the ground gave way")
        with Path(spec["turns"]).open("a") as turns:
            turns.write(f"{spec['name']}{steps} ")
        now_and_then = {"odd": 1.0} if steps % 2 else {}
        going = pace.report(loss=spec.get("loss", 1.0) / steps, tokens=10 * steps, **now_and_then)
    pace.finish()


if __name__ == "__main__":
    main()
