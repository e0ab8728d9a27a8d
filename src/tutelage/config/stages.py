"""The stages of a run, each a `[[stage]]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tutelage.config.data_stages import LabelStage, PositionsStage, RejectionStage, ReviseStage
from tutelage.config.learning_stages import (
    ControlStage,
    PreferenceStage,
    PretrainStage,
    PruneStage,
    RewardModelStage,
    RlStage,
    SftStage,
)
from tutelage.config.reporting_stages import (
    CompareStage,
    EvaluateStage,
    PerplexityStage,
    PlayStage,
    PredictStage,
    SycophancyStage,
)

Stage = Annotated[
    PretrainStage
    | EvaluateStage
    | PerplexityStage
    | SycophancyStage
    | SftStage
    | RewardModelStage
    | PreferenceStage
    | RlStage
    | LabelStage
    | ReviseStage
    | PruneStage
    | RejectionStage
    | PositionsStage
    | PredictStage
    | CompareStage
    | ControlStage
    | PlayStage,
    Field(discriminator="type"),
]
