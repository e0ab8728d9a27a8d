"""An engine that answers from a script: what tests of everything downstream sample from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.config import Sampling
from tutelage.engines.base import Completion, Finished, Request, Watch

Script = Callable[[Request, int], Completion]


class ScriptedEngine:
    """Completion i of a request is `script(request, i)`, cut to what the request has room for."""

    name = "scripted"

    def __init__(self, script: Script) -> None:
        self.script = script

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        groups: list[list[Completion]] = []
        for number, request in enumerate(requests):
            group = [self.script(request, i) for i in range(request.count)]
            groups.append([_cut(completion, request.room(sampling)) for completion in group])
            if finished:
                finished(number, groups[number])
            if watch:
                written = [completion for group in groups for completion in group]
                watch(len(written), sum(len(completion.tokens) for completion in written))
        return groups


def _cut(completion: Completion, limit: int) -> Completion:
    if len(completion.tokens) <= limit:
        return completion
    return Completion(completion.tokens[:limit], completion.logprobs[:limit], "length", completion.version)
