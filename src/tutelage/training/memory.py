"""What later steps must know of earlier ones, beside weights and numbers; it is saved with a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tutelage.types import Group, Message, Prompt, Sample


class Memory:
    """The last so many steps' groups, oldest first, to be learned from again. Of a prompt, `meta` is not kept: its
    reward has read it.

    | Beside them | |
    |---|---|
    | found | what self-play has found so far, which grows |
    | failing | of prompts whose answers could not be rewarded when they were last asked: how many times in a row |
    | quarantined | of prompts that are not asked any more: why |
    | episodes | those under way in the environments of a `control` stage |
    """

    def __init__(self, steps: int = 0) -> None:
        self.limit = steps
        self.steps: list[list[Group]] = []
        self.found: list[str] = []
        self.failing: dict[str, int] = {}
        self.quarantined: dict[str, str] = {}
        self.episodes: Mapping[str, Any] = {}

    @property
    def empty(self) -> bool:
        return not (self.steps or self._plain)

    @property
    def groups(self) -> list[Group]:
        return [group for step in self.steps for group in step]

    def add(self, groups: Sequence[Group]) -> None:
        """Takes a step's groups in, and lets the oldest step go where there is no room."""
        self.steps = [*self.steps, list(groups)][-self.limit :] if self.limit else []

    def clear(self) -> None:
        """As it was at first."""
        vars(self).update(vars(Memory(self.limit)))

    def to_json(self) -> str:
        return json.dumps({"steps": [[_plain(group) for group in step] for step in self.steps], **self._plain})

    def restore(self, text: str) -> None:
        """What `to_json` wrote."""
        kept = json.loads(text)
        self.steps = [[_group(plain) for plain in step] for step in kept.pop("steps")]
        for name, value in kept.items():
            setattr(self, name, value)

    @property
    def _plain(self) -> dict[str, Any]:
        """All but the groups, where there is anything: it is JSON as it stands."""
        return {name: value for name, value in vars(self).items() if name not in ("limit", "steps") and value}


def _plain(group: Group) -> dict[str, Any]:
    plain = asdict(group)
    plain["prompt"].pop("meta")
    return plain


def _group(plain: dict[str, Any]) -> Group:
    prompt = {**plain["prompt"], "messages": tuple(Message(**message) for message in plain["prompt"]["messages"])}
    samples = [Sample(**sample) for sample in plain["samples"]]
    return Group(Prompt(**prompt), tuple(plain["prompt_tokens"]), samples, plain["role"])
