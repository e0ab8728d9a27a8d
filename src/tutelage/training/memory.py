"""The groups of earlier steps, to be learned from again; they are saved with a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tutelage.types import Group, Message, Prompt, Sample


class Memory:
    """The last so many steps' groups, oldest first. Of a prompt, `meta` is not kept: its reward has read it.

    Beside them, what self-play has `found` so far, which grows.
    """

    def __init__(self, steps: int = 0) -> None:
        self.limit = steps
        self.steps: list[list[Group]] = []
        self.found: list[str] = []

    @property
    def empty(self) -> bool:
        return not self.steps and not self.found

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
        steps = [[_plain(group) for group in step] for step in self.steps]
        return json.dumps({"steps": steps, "found": self.found})

    def restore(self, text: str) -> None:
        """What `to_json` wrote."""
        kept = json.loads(text)
        self.steps = [[_group(plain) for plain in step] for step in kept["steps"]]
        self.found = kept["found"]


def _plain(group: Group) -> dict[str, Any]:
    plain = asdict(group)
    plain["prompt"].pop("meta")
    return plain


def _group(plain: dict[str, Any]) -> Group:
    prompt = {**plain["prompt"], "messages": tuple(Message(**message) for message in plain["prompt"]["messages"])}
    samples = [Sample(**sample) for sample in plain["samples"]]
    return Group(Prompt(**prompt), tuple(plain["prompt_tokens"]), samples, plain["role"])
