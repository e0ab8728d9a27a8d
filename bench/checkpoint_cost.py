"""What a checkpoint costs: writing, hashing and syncing it beside steps of supervised training. Prints JSON.

    python -m bench.checkpoint_cost [--model NAME] [--steps N] [--every N]

Seconds are processor seconds, of the thread that saves and of the process without it, so that other work on the machine
does not count; `waited` is the clock's. A step is one update of `--tokens` packed tokens: shorter than any of
reinforcement learning, which samples first, so the shares are upper bounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.cli.process import prepare_process

prepare_process()

import torch

from bench.machine import describe_machine, load_average
from tutelage.config import Optimizer
from tutelage.data.packing import Row, pack
from tutelage.models import load_policy, pick_compute, resolve
from tutelage.stages.imitation import imitation_loss
from tutelage.training import State, checkpoint, update
from tutelage.training.saving import CheckpointWriter

CPU = torch.device("cpu")


def timed(name: str, spent: dict[str, list[float]]) -> None:
    """Notes the processor seconds of each call of one of the checkpoint's functions."""
    plain: Callable[..., Any] = getattr(checkpoint, name)

    def watched(*arguments: Any, **more: Any) -> Any:
        began = time.thread_time()
        found = plain(*arguments, **more)
        spent[name].append(time.thread_time() - began)
        return found

    setattr(checkpoint, name, watched)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=2048)
    asked = parser.parse_args()
    folder = resolve(asked.model).folder
    if folder is None:
        raise SystemExit(f"{asked.model} is not on this machine: tutelage models fetch {asked.model}")
    spent: dict[str, list[float]] = {name: [] for name in ("save_file", "file_digest", "_sync")}
    for name in spent:
        timed(name, spent)
    policy = load_policy(folder, pick_compute("auto", CPU), CPU)
    state = State(policy, Optimizer(lr=1e-6))
    random = torch.Generator().manual_seed(0)
    steps, waited, size = list[float](), list[float](), 0
    with tempfile.TemporaryDirectory() as kept, CheckpointWriter(state, Path(kept), keep=1) as writer:
        for number in range(asked.steps + 1):
            tokens = torch.randint(0, len(policy.tokenizer), (asked.tokens // 256, 256), generator=random).tolist()
            rows = [Row((), tuple(own), i, fields={"advantages": 1.0}) for i, own in enumerate(tokens)]
            saving, began = sum(map(sum, spent.values())), time.process_time()
            update(state, pack(rows, asked.tokens), lambda p, b: (imitation_loss(p, b, p.states(b)),), 100)
            state.step += 1
            saved = sum(map(sum, spent.values())) - saving  # by the other thread meanwhile
            if number:  # the first one warms up
                steps.append(time.process_time() - began - saved)
                waited.append(writer.waited())
                if number % asked.every == 0:
                    writer.save({})
        writer.finish()
        (newest,) = Path(kept).glob("step-*")
        size = sum(path.stat().st_size for path in newest.iterdir())
    saves = len(steps) // asked.every
    step = statistics.median(steps)
    per_save = {name: sum(times) / saves for name, times in spent.items()}
    share = {name: seconds / (asked.every * step) for name, seconds in per_save.items()}
    result = {
        "model": asked.model, "bytes": size, "every": asked.every, "steps": len(steps), "tokens": asked.tokens,
        "step_cpu_seconds": step, "save_cpu_seconds": per_save, "waited_seconds_a_save": sum(waited) / saves,
        "share_of_steps": {**share, "all": sum(share.values())},
        "share_at_every_10": sum(share.values()) * asked.every / 10,
        "machine": describe_machine(), "load_average": load_average(),
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
