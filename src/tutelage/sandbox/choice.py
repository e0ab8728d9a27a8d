"""Which sandbox runs model-written code on this machine: the first that its own self-test trusts, or none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from tutelage.errors import SandboxError
from tutelage.sandbox.bare import Bare
from tutelage.sandbox.base import Sandbox
from tutelage.sandbox.bubblewrap import Bubblewrap
from tutelage.sandbox.namespaces import Namespaces
from tutelage.sandbox.self_test import weaknesses
from tutelage.sandbox.wasm import Wasm

BACK_ENDS: Final[Mapping[str, Callable[[], Sandbox]]] = {
    "bubblewrap": Bubblewrap,
    "namespaces": Namespaces,
    "wasm": Wasm,
}
"""The sandboxes, in the order in which they are tried."""

UNSAFE: Final = (
    "--unsafe-exec: no sandbox holds on this machine, so model-written code runs as a bare process. It can read and "
    "delete whatever this user can, use the network, and leave processes behind. Do this on a machine that may be lost."
)
_permitted = False


def permit_unsafe_exec(permitted: bool = True) -> None:
    """Lets model-written code run without a sandbox in this process and its workers, where no sandbox holds.

    What `--unsafe-exec` calls. No recipe and no environment variable can.
    """
    global _permitted
    _permitted = permitted


def unsafe_exec_permitted() -> bool:
    """Was `permit_unsafe_exec` called?"""
    return _permitted


def open_sandbox(unsafe: bool | None = None) -> Sandbox:
    """The first sandbox that holds here. It is tested once in a process.

    Args:
        unsafe: take a bare process where none holds; None: as `permit_unsafe_exec` said.

    Raises:
        SandboxError: none holds; the message says why not each, and what can be done.
    """
    found, reasons = _first_that_holds()
    if found is not None:
        return found
    if _permitted if unsafe is None else unsafe:
        warnings.warn(UNSAFE, stacklevel=2)
        return Bare()
    raise SandboxError(
        f"model-written code cannot be run safely on this machine: {'; '.join(reasons)}. Install bubblewrap (apt-get "
        "install bubblewrap), run where namespaces may be made (as root with CAP_SYS_ADMIN, or with user namespaces "
        "allowed), or pip install 'tutelage[wasm]'; docs/sandbox.md. --unsafe-exec runs it without a sandbox"
    )


def trusted(name: str) -> Sandbox:
    """One sandbox by its name, tested.

    Raises:
        SandboxError: it cannot be used here, or does not hold.
    """
    try:
        sandbox = BACK_ENDS[name]()
        broken = weaknesses(sandbox)
    except OSError as error:
        raise SandboxError(f"it cannot be run: {error}") from None
    if broken:
        raise SandboxError(f"its self-test got through to: {', '.join(broken)}")
    return sandbox


@lru_cache(maxsize=1)
def _first_that_holds() -> tuple[Sandbox | None, list[str]]:
    reasons: list[str] = []
    for name in BACK_ENDS:
        try:
            return trusted(name), reasons
        except SandboxError as error:
            reasons.append(f"{name}: {error}")
    return None, reasons
