"""The reward `function`: any Python function, over one sample or a batch, plain or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, cast

from pydantic import Field

from tutelage.config import load_object
from tutelage.errors import ConfigError
from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class FunctionReward(Reward):
    """What a user's function returns.

        def reward(prompt: Prompt, sample: Sample) -> float
        def reward(prompts: Sequence[Prompt], samples: Sequence[Sample]) -> Sequence[float]     # batch = true

    Either may be `async`. A batch is the group of one prompt's samples: `prompts` holds that prompt once for each.
    """

    type: str = "function"
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]  # "module:name"
    batch: bool = False

    @property
    def grouped(self) -> bool:
        return self.batch

    def check(self, where: str) -> None:
        function = load_object(self.function, f"{where}.function")
        if not callable(function):
            raise ConfigError(f"{where}.function: '{self.function}' is no function")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            wanted = "(prompts, samples)" if self.batch else "(prompt, sample)"
            raise ConfigError(f"{where}.function: '{self.function}' cannot be called with {wanted}: {error}") from None
        except ValueError:  # a built-in without a signature
            pass

    def prepare(self) -> None:
        _load(self.function)

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return cast(float, self._call(prompt, sample))

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> Sequence[object]:
        return cast(Sequence[object], self._call([prompt] * len(samples), list(samples)))

    def _call(self, *arguments: object) -> object:
        value = _load(self.function)(*arguments)
        return asyncio.run(_await(value)) if inspect.isawaitable(value) else value


@lru_cache(maxsize=64)
def _load(path: str) -> Callable[..., Any]:
    return cast(Callable[..., Any], load_object(path, "function"))


async def _await(value: Awaitable[object]) -> object:
    return await value
