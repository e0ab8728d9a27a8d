"""Making reasoning-gym's questions, in a process of its own: some tasks walk over sets of strings, whose order depends
on the process's hash seed, draw from the global generator, or print. A child with a fixed seed makes them reproducible.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from tutelage.data.contamination import words_of
from tutelage.errors import TutelageError
from tutelage.rewards.gym import generate
from tutelage.types import Split

Entry = dict[str, Any]  # question, answer, metadata

TRIES = 10  # questions made for each one wanted for testing, before the task counts as exhausted
_PROGRAM = "import sys; sys.path[:] = {path!r}; from tutelage.environments.gym_splits import serve; serve()"


def make_splits(task: str, config: Entry, seed: int, train: int, test: int) -> dict[Split, list[Entry]]:
    """`train` questions, and at most `test` others: fewer where TRIES times as many tries give no more.

    Raises:
        TutelageError: the task failed; the message ends with its traceback.
    """
    return _made(task, json.dumps([task, config, seed, train, test]))


@cache  # every stage that asks an environment has one of its own, and a child takes seconds to start
def _made(task: str, order: str) -> dict[Split, list[Entry]]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
        input=order.encode(),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    )
    if done.returncode != 0:
        raise TutelageError(f"reasoning-gym task '{task}' failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return pickle.loads(done.stdout)


def serve() -> None:
    """The child's life: an order on standard input, the splits on standard output."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        pickle.dump(_splits(*json.load(sys.stdin)), out)


def _splits(task: str, config: Entry, seed: int, train: int, test: int) -> dict[Split, list[Entry]]:
    """Question i is made from seed + i, so the splits share no seed; what was asked already is left out of test."""
    train_entries = list(_entries(task, config, seed, train))
    seen = {words_of(entry["question"]) for entry in train_entries}
    test_entries: list[Entry] = []
    for entry in _entries(task, config, seed + train, TRIES * test):
        words = words_of(entry["question"])
        if words not in seen:
            seen.add(words)
            test_entries.append(entry)
        if len(test_entries) == test:
            break
    return {"train": train_entries, "test": test_entries}


def _entries(task: str, config: Entry, seed: int, size: int) -> Iterator[Entry]:
    dataset = generate(task, config, seed, size)
    return (dataset[i] for i in range(size))
