"""Every kind of training, killed in every kind of moment, ends bit for bit as if it had not been.

And the contrary: whatever is left out of a checkpoint, the end is another. What a checkpoint holds is asked of its
files, so what is added to it one day is left out here, too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.pipelines.lives import Server, cut_off, differing, outcome
from tests.pipelines.scenarios import SCENARIOS, STEPS, write
from tutelage.training import Memory
from tutelage.training.checkpoint import Snapshot, file_digest

STAGE = "01-learn"
SAMPLES = {"grpo", "ppo", "trpo", "lora", "distillation", "self-play"}
ALL_KEPT = ["learn.checkpoints.every=1", "learn.checkpoints.keep=99"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bitwise")


def recipe_of(name: str, folder: Path) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return write(folder / name, SCENARIOS[name])


def whole(name: str, folder: Path, lives: Server) -> Path:
    """A run that nobody killed, with all of its checkpoints."""
    path = recipe_of(name, folder)
    if not (path.parent / "whole").exists():
        lives.live(path, path.parent / "whole", ALL_KEPT, patches=["with_first"])
    return path.parent / "whole"


def deaths(name: str) -> list[tuple[str, str, int, int]]:
    """In a step's sampling, between two updates of a step, within an update, after a step."""
    points = [("update", 2, 2 if name in SAMPLES or "control" in name else 1), ("accumulate", 3, 2), ("step", 5, 1)]
    if name == "trpo":
        points[0] = ("update", 2, 1)  # the critic's first: the policy has moved
    if name == "self-play":
        points[1] = ("step", 3, 1)  # most of its moves teach nothing: an update is of one micro-batch at most
    if name in SAMPLES:
        points = [("sample", 1, 1), *points]
    return [("learn", *point) for point in points]


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_in_every_kind_of_moment_it_ends_as_if_it_had_not_been(
    name: str, folder: Path, lives: Server, tmp_path: Path
) -> None:
    expected = outcome(whole(name, folder, lives))
    steps = STEPS - 1 if name == "sft" else STEPS  # it loses its patience
    assert [line["step"] for line in expected["metrics"]] == [i + 1 for i in range(steps)]
    path: Path | None = recipe_of(name, folder)
    for point in deaths(name):
        lives.live(path, tmp_path / "run", kill=point)
        path = None
    said = lives.live(None, tmp_path / "run")
    assert "goes on after step 4" in said or "goes on after step 2" in said  # was there time to write the newer one?
    assert differing(outcome(tmp_path / "run"), expected) == []


@pytest.mark.parametrize("name", ["sft", "grpo", "ppo", "control"])
def test_a_checkpoint_is_of_its_moment_however_late_it_is_written(
    name: str, folder: Path, lives: Server, tmp_path: Path
) -> None:
    path, found = recipe_of(name, folder), list[dict[str, str]]()
    for patch in ("slow_writing", "at_once"):
        lives.live(path, tmp_path / patch, ALL_KEPT, patches=[patch])
        saved = sorted((tmp_path / patch / "stages" / STAGE / "checkpoints").glob("*/*.safetensors"))
        found.append({f"{file.parent.name}/{file.name}": file_digest(file) for file in saved})
    assert len(found[0]) >= 2 * (STEPS - 1)
    assert found[0] == found[1]


def components(checkpoint: Path) -> set[str]:
    """What a checkpoint holds, from its files: kinds of tensors by whose they are, keys of JSON and keys in those."""
    found: set[str] = set()
    for file in checkpoint.glob("*.safetensors"):
        found |= {_kind(file.name, key) for key in load_file(file)}
    for file in ("state.json", "memory.json"):
        if (checkpoint / file).exists():
            for key, value in json.loads((checkpoint / file).read_text()).items():
                keys = [f"{file}:{key}:{inner}" for inner in value] if key in NESTED else [f"{file}:{key}"]
                found |= {name for name in keys if _value(checkpoint, name)}
    return found


NESTED = ("offsets", "dials", "episodes")
COMMON = {  # left out once, under grpo
    *(f"state.json:{key}" for key in ("step", "version", "offsets:metrics", "offsets:samples")),
    *(f"optimizer.safetensors:{moment}:policy" for moment in ("step", "exp_avg", "exp_avg_sq")),
    "masters.safetensors:policy",
}


def _kind(file: str, key: str) -> str:
    """Of `exp_avg/critic/layer`: the optimizer's, exp_avg, the critic's."""
    parts = key.split("/")
    moment = f"{parts.pop(0)}:" if file.startswith("optimizer") else ""
    whose = parts[0] if parts[0] == "critic" else "/".join(parts[:2]) if parts[0] == "buffer" else "policy"
    return f"{file}:{moment}{whose}"


def _value(checkpoint: Path, name: str) -> Any:
    file, *keys = name.split(":")
    value: Any = json.loads((checkpoint / file).read_text())
    for key in keys:
        value = value[key]
    return value


def leave_out(checkpoint: Path, first: Path, component: str) -> None:
    """Makes one thing of a checkpoint what it was when the stage began, and says in the manifest that this is right."""
    file, *keys = component.split(":")
    if file.endswith(".safetensors"):
        tensors, began = load_file(checkpoint / file), load_file(first / file)
        own = [key for key in tensors if _kind(file, key) == component]
        kept = {key: tensor for key, tensor in tensors.items() if key not in own}
        save_file(kept | {key: began[key] for key in own if key in began}, checkpoint / file)
    else:
        table = json.loads((checkpoint / file).read_text())
        inner = table
        for key in keys[:-1]:
            inner = inner[key]
        before: Any = json.loads((first / file).read_text()) if (first / file).exists() else {}
        for key in keys:
            before = before.get(key, {}) if isinstance(before, Mapping) else {}
        left = before or type(inner[keys[-1]])()
        if isinstance(left, float) and not before:
            del inner[keys[-1]]  # a dial's default need not be 0
        else:
            inner[keys[-1]] = left
        (checkpoint / file).write_text(json.dumps(table))
    digests = {path.name: file_digest(path) for path in checkpoint.iterdir() if path.name != "manifest.json"}
    (checkpoint / "manifest.json").write_text(json.dumps({"sha256": digests}))


def digest_of(checkpoint: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(checkpoint.iterdir()))).hexdigest()


@pytest.mark.parametrize(
    ("name", "step"),
    [("grpo", 5), ("ppo", 4), ("self-play", 3), ("control", 4), ("sft", 5), ("sft", "last"), ("preference", 4)],
)
def test_nothing_can_be_left_out_of_a_checkpoint(
    name: str, step: Any, folder: Path, lives: Server, tmp_path: Path
) -> None:
    out = whole(name, folder, lives)
    expected, first = outcome(out), out / "stages" / STAGE / "first/step-000000"
    last, step = step == "last", len(expected["metrics"]) if step == "last" else step
    checkpoint = cut_off(out, tmp_path / "none", STAGE, step)
    found = components(checkpoint) - (set() if name == "grpo" else COMMON)
    if last:  # of a stage that has ended by itself, only that is still read
        found &= {"state.json:dials:stop"}
    assert found
    lives.live(None, tmp_path / "none")
    assert differing(outcome(tmp_path / "none"), expected) == []  # with nothing left out, all is well
    idle: list[str] = []
    for component in sorted(found):
        checkpoint = cut_off(out, tmp_path / "run", STAGE, step)
        before = digest_of(checkpoint)
        leave_out(checkpoint, first, component)
        assert digest_of(checkpoint) != before, component
        code = lives.code(None, tmp_path / "run")  # without half of the optimizer it may not go on at all
        if code == 0 and not differing(outcome(tmp_path / "run"), expected):
            idle.append(component)
        shutil.rmtree(tmp_path / "run")
    assert idle == []


def test_every_component_is_left_out_somewhere(folder: Path, lives: Server) -> None:
    """What `State` and `Memory` have is in one of the checkpoints above."""
    found: set[str] = set()
    for name in ("grpo", "ppo", "self-play", "control", "sft", "preference"):
        for path in (whole(name, folder, lives) / "stages" / STAGE / "checkpoints").iterdir():
            found |= components(path)
    files = {"masters": "masters.", "moments": "optimizer.", "reference": "reference.", "memory": "memory.json"}
    for field in fields(Snapshot):
        wanted = files.get(field.name, f"state.json:{field.name}")
        assert any(one.startswith(wanted) for one in found), field.name
    for name in vars(Memory()).keys() - {"limit"}:
        assert any(one.startswith(f"memory.json:{name}") for one in found), name
