"""Which samples a report shows: chosen by place, never by outcome, and it says how many were left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.report.read import Place, Row, Run, SampleLog, StageRecord

_PER_STAGE = 800  # samples to begin with; fewer where they would make the page too heavy
_STEPS = 40
_BYTES = 1_500_000
_CHARACTERS = 4_000
_ASKED, _WORSE = 6, 4


@dataclass(frozen=True, slots=True)
class Browser:
    """What the page's browser of samples is filled with."""

    data: str  # JSON that is safe inside a <script> element
    shown: int
    total: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same question."""

    before: Row
    after: Row

    @property
    def change(self) -> float:
        """How much the reward rose; 0 where one of the answers could not be scored."""
        first, second = self.before.get("reward"), self.after.get("reward")
        return 0.0 if first is None or second is None else second - first


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers before and after: the first questions that were asked, and the first that got worse."""

    before: str
    after: str
    better: int
    worse: int
    same: int
    first: Sequence[Pair]
    got_worse: Sequence[Pair]


def browser(run: Run) -> Browser:
    """Samples of every stage, evenly over its steps, in whole groups where they fit."""
    total = sum(run.samples.places.values())
    limit = _PER_STAGE
    while True:
        stages = [_stage(run.samples, stage, limit) for stage in run.stages]
        stages = [stage for stage in stages if stage["steps"]]
        data = in_script(stages)
        if len(data.encode(errors="replace")) <= _BYTES or limit == 1:
            break
        limit //= 2
    shown = sum(len(g["samples"]) for stage in stages for step in stage["steps"] for g in step["groups"])
    return Browser(data, shown, total)


def pairs(run: Run, before: StageRecord, after: StageRecord) -> Pairs | None:
    """The answers of two evaluations to the same questions; None where none was recorded."""
    first, second = _answers(run.samples, before.name), _answers(run.samples, after.name)
    both = [Pair(first[question], second[question]) for question in first if question in second]
    if not both:
        return None
    worse = [pair for pair in both if pair.change < 0]
    better = sum(pair.change > 0 for pair in both)
    shown = both[:_ASKED]
    return Pairs(
        before=before.name,
        after=after.name,
        better=better,
        worse=len(worse),
        same=len(both) - better - len(worse),
        first=shown,
        got_worse=[pair for pair in worse if pair not in shown][:_WORSE],
    )


def in_script(value: object) -> str:
    """JSON that may stand in a `<script>`: `<` never appears as such, so no text can end the element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _answers(log: SampleLog, stage: str) -> dict[str, Row]:
    rows = (_shortened(row) for row in log.at((stage, 0)) if row.get("index", 0) == 0)
    return {str(row["prompt_id"]): row for row in rows}


def _stage(log: SampleLog, stage: StageRecord, limit: int) -> dict[str, Any]:
    places = evenly([place for place in log.places if place[0] == stage.name], min(_STEPS, limit))
    steps = [_step(log, place, limit // len(places)) for place in places]
    return {"name": stage.name, "kind": stage.kind, "steps": steps}


def _step(log: SampleLog, place: Place, limit: int) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    for taken, row in enumerate(log.at(place)):
        key = str(row.get("prompt_id"))
        if (taken >= limit and key not in groups) or taken >= 2 * limit:
            break
        row = _shortened(row)
        group = groups.setdefault(key, {"prompt": row["prompt"], "answer": row.get("answer"), "samples": []})
        group["samples"].append(
            {key: row.get(key) for key in ("text", "tokens", "finish", "reward", "rewards", "failure")}
        )
    return {"step": place[1], "total": log.places[place], "groups": list(groups.values())}


def _shortened(row: Mapping[str, Any]) -> Row:
    return {**row, "prompt": _cut(row.get("prompt")), "text": _cut(row.get("text"))}


def _cut(text: object) -> str:
    words = "" if text is None else str(text)
    left = len(words) - _CHARACTERS
    return words if left <= 0 else f"{words[:_CHARACTERS]} … ({left:,} more characters)"
