"""Every number that a stage records has a name as people say it, and a sentence: found in the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tutelage
from tutelage.training.metrics import MEANINGS, meaning

SOURCES = Path(tutelage.__file__).parent
TABLES = (
    "_metrics",
    "metrics",
    "numbers",
    "whole",
    "means",
    "sides",
    "critic",
    "values_A",
)  # what metrics are gathered in, wherever they are
TOLD = ("metrics", "extra_metrics", "update", "trust_region_update")  # functions that return some


def keys(node: ast.AST) -> Iterator[str]:
    """The keys of a table that is written out, and of those joined to it."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            yield from (key.value for key in inner.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def named(target: ast.expr) -> str:
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


def recorded(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and named(node.func) in ("action_sums", "metrics"):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg is not None)
        if isinstance(node, ast.keyword) and node.arg == "metrics":
            yield from keys(node.value)
        if isinstance(node, ast.Call) and named(node.func) == "Loss":
            yield from (key for argument in node.args for key in keys(argument))
        targets = node.targets if isinstance(node, ast.Assign) else (
            [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []
        )  # fmt: skip
        for target in targets:
            if named(target) in TABLES and getattr(node, "value", None) is not None:
                yield from keys(node.value)  # type: ignore[union-attr]
            inner = target.slice if isinstance(target, ast.Subscript) and named(target.value) in TABLES else None
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                yield inner.value
        if isinstance(node, ast.FunctionDef) and node.name in TOLD:
            for returned in ast.walk(node):
                if isinstance(returned, ast.Return) and returned.value is not None:
                    yield from keys(returned.value)


def found() -> dict[str, set[str]]:
    """The names of metrics by the file that records them."""
    files = [path for room in ("stages", "algorithms", "training") for path in (SOURCES / room).glob("*.py")]
    return {str(path.relative_to(SOURCES)): set(recorded(ast.parse(path.read_text()))) for path in files}


def test_every_metric_of_every_stage_has_a_meaning() -> None:
    names = {name: file for file, some in found().items() for name in some}
    # The idioms are those in use: this finds what each room is known to record.
    known = {
        "value_loss", "moved", "chosen", "margin", "clipped", "step_share", "test_loss", "groups", "collect_seconds",
        "skipped", "memory_gib", "pretraining_loss", "mean_score", "critic_grad_norm", "zero_spread_groups", "mean_gap",
        "rejected_reward", "kl", "mismatch",
    }  # fmt: skip
    assert known <= names.keys()
    missing = {name: file for name, file in names.items() if name not in MEANINGS}
    assert not missing


def test_meanings_are_sentences_and_names_as_people_say_them() -> None:
    for name, about in MEANINGS.items():
        assert about.title[0].isupper(), name
        assert "_" not in about.title, name
        assert about.sentence.endswith("."), name
        assert len(about.sentence) > 15, name
    assert meaning("reward/format").title == "Reward: format"
    assert meaning("a user's own") == type(meaning("loss"))("a user's own", "")
