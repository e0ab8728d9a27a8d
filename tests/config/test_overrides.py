"""`--set` beside a file that is wrong elsewhere: refused like any other, by recipes and suites alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config import read_recipe, read_suite
from tutelage.errors import ConfigError


@pytest.mark.parametrize("read", [read_recipe, read_suite])
@pytest.mark.parametrize("stage", ['"sft"', "[1]", "[{ name = [1] }]"])
def test_stages_that_are_no_tables_are_refused(read: Callable[..., Any], stage: str, tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text(f'name = "x"\nstage = {stage}\n')
    with pytest.raises(ConfigError, match="stage"):
        read(path, ["name=y"]).of_models(["a"])
    with pytest.raises(ConfigError, match=r"--set nothing\.here=1: 'nothing' is neither stage\.key nor"):
        read(path, ["nothing.here=1"])
