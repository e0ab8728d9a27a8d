"""The table of protections is of this tree: its edits fit, its tests exist, and no case lacks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.protections_taken import TAKEN, Protection

ROOT = Path(__file__).parents[1]


def held() -> dict[int, str]:
    """The cases of the operations page and the files that hold each."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+(?:, \d+)*) .*\|([^|]*)\|$", page.partition("## The cases")[2], re.MULTILINE)
    return {int(case): by for cases, by in rows for case in cases.split(", ")}


@pytest.mark.parametrize("protection", TAKEN, ids=lambda one: f"{one.case}: {one.taken}")
def test_what_is_taken_out_is_there_and_so_is_its_test(protection: Protection) -> None:
    for file, old, new in protection.edits:
        source = (ROOT / "src/tutelage" / file).read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{file}: {old}"
        compile(source.replace(old, new), file, "exec")
    path, _, name = protection.test.partition("::")
    defined = ast.walk(ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8")))
    assert name.partition("[")[0] in {one.name for one in defined if isinstance(one, ast.FunctionDef)}


def test_each_case_loses_a_protection_of_the_tests_that_hold_it() -> None:
    cases = held()
    assert len(cases) == 37
    taken = {case: {Path(one.test.partition("::")[0]).stem for one in TAKEN if one.case == case} for case in cases}
    assert [case for case, by in cases.items() if by.strip() and not any(stem in by for stem in taken[case])] == []
