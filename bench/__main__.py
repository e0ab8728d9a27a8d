"""`python -m bench run` measures, `python -m bench table` prints what was measured as markdown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import control, curves, family, generate, grpo, preferences, roofline, sandbox, scaling, sft
from bench.alternate import ROOT
from bench.compare import Row
from bench.inputs import BUILD, write_json
from bench.machine import describe_machine, load_average
from bench.settings import Settings

Run = Callable[[Settings], Iterable[Row]]
Show = Callable[[list[Row]], str]
BENCHMARKS: dict[str, tuple[Run, Show]] = {
    "grpo": (grpo.run, grpo.show),
    "generate": (generate.run, generate.show),
    "sft": (sft.run, sft.show),
    "dpo": (preferences.run, preferences.show),
    "roofline": (roofline.run, roofline.show),
    "scaling": (scaling.run, scaling.show),
    "curves": (curves.run, curves.show),
    "control": (control.run, control.show),
    "family": (family.run, family.show),
    "sandbox": (sandbox.run, sandbox.show),
}
RESULTS = ROOT / "bench" / "results"


def measure(name: str, settings: Settings, folder: Path) -> None:
    """Runs one benchmark. Its file is written anew after every row, so that what is measured is not lost.

    Where only some cases are measured, the rows of the others stay in it, in their places.
    """
    path = folder / f"{name}.json"
    before = json.loads(path.read_text())["rows"] if settings.case and path.exists() else []
    places = [row["case"] for row in before]
    kept = [row for row in before if not settings.wants(row["case"])]
    result = {
        "benchmark": name,
        "command": f"python -m bench run --only {name} --steps {settings.steps}" + " --quick" * settings.quick,
        "case": settings.case,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "load_average_before": load_average(),
        "rows": list[Row](),
    }
    run, _ = BENCHMARKS[name]
    for row in run(settings):
        kept.append({**row, "date": datetime.now(UTC).isoformat(timespec="seconds")})
        result["rows"] = sorted(
            kept, key=lambda row: places.index(row["case"]) if row["case"] in places else len(places)
        )
        result["load_average_after"] = load_average()
        write_json(path, result)


def tables(folder: Path) -> Iterator[str]:
    """The markdown of every result in the folder, in the order of the benchmarks."""
    results = {name: folder / f"{name}.json" for name in BENCHMARKS}
    found = {name: json.loads(path.read_text()) for name, path in results.items() if path.exists()}
    rows = {name: result["rows"] for name, result in found.items()}
    for name, result in found.items():
        machine = result["machine"]
        yield (
            f"### {name}\n\n`{result['command']}`, {result['date'][:10]}, {machine['cores']} cores of "
            f"{machine['processor']} ({', '.join(machine['flags'])})\n\n{BENCHMARKS[name][1](rows[name])}\n"
        )
        if name == "roofline":
            yield f"{roofline.shares(rows[name], rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--only", help="names with commas between them, of " + ", ".join(BENCHMARKS))
    run.add_argument("--steps", type=int, default=5, help="counted steps of each program (default 5)")
    run.add_argument("--peer", help="the interpreter that has TRL; without it only ours is measured")
    run.add_argument("--case", default="", help="only the cases whose name holds this; results of others stay")
    run.add_argument("--quick", action="store_true", help="a random model and small sizes, to see that all works")
    show = commands.add_parser("table", help="print the results as markdown")
    for command in (run, show):
        command.add_argument("--results", type=Path, help="folder of the JSON files (default bench/results)")
    arguments = parser.parse_args()
    if arguments.command == "table":
        print("\n".join(tables(arguments.results or RESULTS)))
        return
    names = arguments.only.split(",") if arguments.only else list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"--only: no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    settings = Settings(arguments.peer, arguments.steps, quick=arguments.quick, case=arguments.case)
    for name in names:
        print(name, file=sys.stderr, flush=True)
        measure(name, settings, arguments.results or (BUILD / "quick" if arguments.quick else RESULTS))


if __name__ == "__main__":
    main()
