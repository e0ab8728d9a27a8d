"""The back-end `bare`: no sandbox. The program may do whatever its user may do; only mistakes are held, not malice."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tutelage.sandbox.base import Finished, Limits, Program
from tutelage.sandbox.contained import START, own_limits, whole_source
from tutelage.sandbox.layout import ENVIRONMENT, this_layout
from tutelage.sandbox.process import supervise


class Bare:
    """A subprocess with resource limits, an empty environment and a folder that is deleted after it."""

    name = "bare"

    def run(self, program: Program, limits: Limits) -> Finished:
        with tempfile.TemporaryDirectory(prefix="tutelage-", ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            (place / "start.py").write_text(START, encoding="utf-8")
            (place / "main.py").write_text(whole_source(program), encoding="utf-8")
            python, *flags, _ = this_layout().command
            command = [python, *flags, str(place / "start.py"), own_limits(limits, apart=False)]
            environment = {**ENVIRONMENT, "HOME": folder, "TMPDIR": folder}
            return supervise(command, program, limits, environment, folder=folder)
