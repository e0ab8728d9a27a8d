"""What all pages share: one file with style and script in it, and a policy that lets nothing else run or leave."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from tutelage.errors import RunFolderError
from tutelage.training.metrics import MEANINGS
from tutelage.training.progress import duration

_ROOM = files("tutelage.report")
_STYLES = ("report.css", "sections.css")


def render(template: str, scripts: Sequence[str], live: bool = False, **context: object) -> str:
    """A page out of a template of this room.

    Args:
        scripts: names of the room's scripts that run in it, in this order.
        live: may it ask the server that it came from?
    """
    # What a model wrote is escaped; without exception, for this is the page where it would be run.
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    environment.filters["unbroken"] = unbroken
    script = "\n".join(_read(name) for name in scripts)
    return environment.get_template(template).render(
        **context,
        live=live,
        style=Markup("\n".join(_read(name) for name in _STYLES)),
        script=Markup(script),
        policy=policy_of(script, live),
    )


def policy_of(script: str, live: bool = False) -> str:
    """The content security policy of a page with this script: it alone runs, and nothing is fetched from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = "; connect-src 'self'" if live else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:{own}; "
        "base-uri 'none'; form-action 'none'"
    )


def write_page(path: Path, page: str) -> Path:
    """Writes a page whole or not at all. Raises RunFolderError; what was there before then stays as it was."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        beside.write_text(page, encoding="utf-8", errors="replace")
        beside.replace(path)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}; make room, or free the folder") from error
    return path


def by_importance(seen: Sequence[str], first: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of metrics: those to be shown first, in that order; then the other known ones, then a user's own."""
    shown = [name for name in first if name in seen]
    known = [name for name in MEANINGS if name in seen and name not in shown]
    return shown, known + [name for name in seen if name not in shown and name not in known]


def unbroken(text: str) -> str:
    """Keeps a line from breaking inside of "43 % (37–50)"."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace("–", "\N{WORD JOINER}–\N{WORD JOINER}")


def _read(name: str) -> str:
    return _ROOM.joinpath(*name.split("/")).read_text(encoding="utf-8")
