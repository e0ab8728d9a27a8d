"""What stages leave for one another: which kind each leaves, which names it reads, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from tutelage.config.figures import parts_of
from tutelage.config.part import Table
from tutelage.config.stage_base import ModelStage
from tutelage.config.stages import Stage
from tutelage.errors import ConfigError

Kind = Literal["policy", "reward model", "judged answers", "conversations", "prompts", "control policy", "report"]

LEAVES: Final[Mapping[str, Kind]] = {
    "pretrain": "policy",
    "sft": "policy",
    "preference": "policy",
    "rl": "policy",
    "prune": "policy",
    "reward-model": "reward model",
    "label": "judged answers",
    "revise": "judged answers",
    "rejection": "conversations",
    "positions": "prompts",
    "control": "control policy",
    "evaluate": "report",
    "perplexity": "report",
    "sycophancy": "report",
    "compare": "report",
    "predict": "report",
    "play": "report",
}
"""By type of stage. After one that leaves a policy the next goes on with that; a report is for people."""

_WANTED: Final[Mapping[tuple[str, str], tuple[Kind, ...]]] = {
    ("", "start"): ("policy",),
    ("", "kl_to"): ("policy",),
    ("critic", "start"): ("reward model",),
    ("source", "stage"): ("judged answers",),
    ("reference", "model"): ("policy",),
    ("rewards", "models"): ("reward model",),
    ("rewards", "model"): ("policy",),
    ("rewards", "reference"): ("policy",),
    ("contestants", "model"): ("policy",),
    ("contestants", "by"): ("reward model",),
}
"""The keys that name a stage, each after the table it stands in, and what must lie there."""

_ASKED: Final[tuple[Kind, ...]] = ("prompts",)
"""What must lie where an environment's table has a `stage`: every stage that uses the environment reads that one."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place where a stage names another one."""

    where: str  # "rewards[0].models[0]", "environment (environments.words.stage)"
    name: str
    wanted: tuple[Kind, ...]


def references(stage: Stage, environments: Mapping[str, Table]) -> Iterator[Reference]:
    """Every place of a stage that may name another one; what is no stage's name there is a folder, or "base"."""
    asked = getattr(stage, "environment", None)
    for name in [] if asked is None else [asked, *parts_of(environments.get(asked, {}))]:
        if isinstance(made := environments.get(name, {}).get("stage"), str):
            yield Reference(f"environment (environments.{name}.stage)", made, _ASKED)
    for where, table, key, value in _texts(stage.model_dump(mode="json"), "", ""):
        wanted = _WANTED.get((table, key))
        if wanted is None:
            continue
        if stage.type == "reward-model" and (table, key) == ("", "start"):
            wanted = (*wanted, "reward model")
        if stage.type in ("sft", "rl") and (table, key) == ("source", "stage"):
            wanted = (*wanted, "conversations")
        yield Reference(where, value, wanted)


def reads(stage: Stage, earlier: Sequence[Stage], environments: Mapping[str, Table]) -> list[str]:
    """The names of the stages before it whose artefacts a stage reads, in their order."""
    named = {reference.name for reference in references(stage, environments)}
    begins = newest(stage, earlier)
    return [other.name for other in earlier if other.name in named or other.name == begins]


def newest(stage: Stage, earlier: Sequence[Stage]) -> str | None:
    """The stage that one without a `start` goes on from; None: from the recipe's model, or from nothing."""
    if isinstance(stage, ModelStage):
        kind: Kind = "policy"
        if stage.start is not None:
            return None
    elif stage.type == "play":
        kind = "control policy"
    else:
        return None
    return next((other.name for other in reversed(earlier) if LEAVES[other.type] == kind), None)


def check_artefacts(stages: Sequence[Stage], environments: Mapping[str, Table]) -> None:
    """Raises ConfigError where a stage is named that leaves the wrong kind, or comes later."""
    places = {stage.name: place for place, stage in enumerate(stages)}
    for place, stage in enumerate(stages):
        for reference in references(stage, environments):
            if reference.name in places:
                _check(reference, place, stages[places[reference.name]], places[reference.name])


def check_used(stages: Sequence[Stage], environments: Mapping[str, Table]) -> None:
    """Raises ConfigError for a stage that nothing after it uses, though other stages after it leave something."""
    used = {name for place, stage in enumerate(stages) for name in reads(stage, stages[:place], environments)}
    ends = max((place for place, stage in enumerate(stages) if LEAVES[stage.type] != "report"), default=0)
    for place, stage in enumerate(stages[:ends]):
        if LEAVES[stage.type] != "report" and stage.name not in used and not stage.keep:
            raise ConfigError(
                f"stage[{place}]: nothing after '{stage.name}' uses the {LEAVES[stage.type]} that it leaves; name it "
                "where it is wanted (start, models, source, contestants, an environment), set keep = true, or leave "
                "the stage out"
            )


def _check(reference: Reference, place: int, named: Stage, there: int) -> None:
    where = f"stage[{place}].{reference.where}"
    if there >= place:
        late = "is this stage itself" if there == place else "comes after this stage"
        raise ConfigError(f"{where}: '{reference.name}' {late}, so it has left nothing yet; name one before")
    if LEAVES[named.type] not in reference.wanted:
        raise ConfigError(
            f"{where}: wanted is a stage that leaves: {' or '.join(reference.wanted)}; '{named.name}' ({named.type}) "
            f"leaves: {LEAVES[named.type]}"
        )


def _texts(value: object, where: str, table: str, key: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every text in nested tables and lists: its place, the name of its table, its key, and itself."""
    if isinstance(value, str):
        yield where, table, key, value
    elif isinstance(value, Mapping):
        for name, inner in cast(Mapping[str, object], value).items():
            deeper = f"{where}.{name}" if where else name
            yield from _texts(inner, deeper, table if isinstance(inner, str | list) else name, name)
    elif isinstance(value, list):
        for number, inner in enumerate(cast(list[object], value)):
            entry = f"{where}[{number}]"
            yield from _texts(inner, entry, table if isinstance(inner, str) else key, key)
