"""What the stages of a run share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tutelage.config.gates import Gates
from tutelage.config.part import Part

Seconds = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Separator = Annotated[str, Field(min_length=1)]


class AnyStage(Part):
    """What all stages share."""

    name: Name
    require: Gates = ()  # what its figures must be for the run to go on: "accuracy >= 0.6"
    keep: bool = False  # what it leaves is wanted, though no stage uses it


class ModelStage(AnyStage):
    """What stages of language models share."""

    start: str | None = None  # the stage whose model it begins with, or "base"; None: the newest policy
