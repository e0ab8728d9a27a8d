"""(g) Classic control beside Stable-Baselines3 and sb3-contrib's TRPO: returns over seeds, and steps a second.

The same environments, networks (two tanh layers of 64 each for policy and critic), rates, epochs, minibatches and
numbers of steps. Each counted step of the driver is a whole training with a seed of its own and 20 greedy episodes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from bench.alternate import Program, alternate
from bench.compare import Row, markdown
from bench.curves import difference
from bench.settings import Settings

_CRITIC = {"kind": "model", "weight": 1.0}  # the peer's 0.5 is of the whole square, ours of its half
_PPO: dict[str, Any] = {"type": "ppo", "critic": _CRITIC}
_TRPO: dict[str, Any] = {"type": "trpo", "critic": _CRITIC}
_A2C: dict[str, Any] = {"type": "a2c", "decay": 1.0, "entropy_bonus": 0.0, "critic": _CRITIC}
# The peer's defaults, but for what its authors tuned for the environment (rl-baselines3-zoo): discount, decay, lengths.
CASES: dict[str, dict[str, Any]] = {
    "CartPole-v1, PPO": {
        "id": "CartPole-v1", "algorithm": {**_PPO, "discount": 0.98, "decay": 0.8}, "total": 102_400, "copies": 8,
        "length": 32, "epochs": 20, "transitions_per_update": 256, "lr": 1e-3, "schedule": "linear",
    },
    "CartPole-v1, A2C": {
        "id": "CartPole-v1", "algorithm": {**_A2C, "discount": 0.99}, "total": 102_400, "copies": 8,
        "length": 5, "epochs": 1, "transitions_per_update": "all", "lr": 7e-4, "schedule": "constant",
    },
    "CartPole-v1, TRPO": {
        "id": "CartPole-v1", "algorithm": {**_TRPO, "discount": 0.99, "decay": 0.95}, "total": 102_400, "copies": 8,
        "length": 256, "epochs": 10, "transitions_per_update": 128, "lr": 1e-3, "schedule": "constant",
    },
    "Acrobot-v1, PPO": {
        "id": "Acrobot-v1", "algorithm": {**_PPO, "discount": 0.99, "decay": 0.94}, "total": 204_800, "copies": 16,
        "length": 256, "epochs": 4, "transitions_per_update": 64, "lr": 3e-4, "schedule": "constant",
        "normalise": True,
    },
    "Pendulum-v1, PPO": {
        "id": "Pendulum-v1", "algorithm": {**_PPO, "discount": 0.9, "decay": 0.95}, "total": 102_400, "copies": 4,
        "length": 1024, "epochs": 10, "transitions_per_update": 64, "lr": 1e-3, "schedule": "constant",
    },
    "Pendulum-v1, TRPO": {
        "id": "Pendulum-v1", "algorithm": {**_TRPO, "discount": 0.9, "decay": 0.95}, "total": 102_400, "copies": 4,
        "length": 1024, "epochs": 15, "transitions_per_update": 128, "lr": 1e-3, "schedule": "constant",
        "normalise": True,
    },
}  # fmt: skip


def run(settings: Settings) -> Iterator[Row]:
    for name, case in list(CASES.items())[: 1 if settings.quick else None]:
        if not settings.wants(name):
            continue
        spec = {"normalise": False, **case, "total": settings.size(case["total"], 2 * case["copies"] * case["length"])}
        programs = [Program("ours", "bench.ours.control", spec)]
        if settings.peer:
            programs.append(Program("peer: Stable-Baselines3", "bench.peer.control", spec, settings.peer))
        running = alternate(programs, settings.size(settings.steps, 1), warmup=0)
        row: Row = {"case": name, "total": spec["total"]}
        for side, one in zip(("ours", "peer"), running, strict=False):
            row[side] = {
                **one.result(),
                "scores": [round(step["score"], 2) for step in one.steps],
                "steps_per_second": [round(spec["total"] / step["train_seconds"]) for step in one.steps],
            }
        yield row


def show(rows: list[Row]) -> str:
    header = [
        "case",
        "seeds",
        "ours: return",
        "peer: return",
        "difference (95 %)",
        "ours steps/s",
        "peer steps/s",
        "times",
    ]
    lines: list[list[object]] = []
    for row in rows:
        scores = {side: row[side]["scores"] for side in ("ours", "peer") if side in row}
        speeds = {side: statistics.median(row[side]["steps_per_second"]) for side in scores}
        shown = {
            side: f"{statistics.mean(some):.0f} ({min(some):.0f} to {max(some):.0f})" for side, some in scores.items()
        }
        gap = "-"
        if "peer" in scores and len(scores["peer"]) > 1:
            middle, half = difference(scores["ours"], scores["peer"])
            gap = f"{middle:+.0f} ({middle - half:+.0f} to {middle + half:+.0f})"
        times = speeds["ours"] / speeds["peer"] if "peer" in speeds else "-"
        lines.append([row["case"], len(scores["ours"]), shown["ours"], shown.get("peer", "-"), gap,
                      speeds["ours"], speeds.get("peer", "-"), times])  # fmt: skip
    return markdown(header, lines)
