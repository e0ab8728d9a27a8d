"""The figures that a stage will have found when it is finished: what a gate can ask for."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.config.gates import condition
from tutelage.config.part import Table, nearest
from tutelage.config.stages import (
    CompareStage,
    EvaluateStage,
    LabelStage,
    PlayStage,
    PreferenceStage,
    PretrainStage,
    ReviseStage,
    RewardModelStage,
    SftStage,
    Stage,
)
from tutelage.errors import ConfigError


def promised(stage: Stage) -> list[str]:
    """The names of the figures that a stage leaves."""
    match stage:
        case EvaluateStage():
            return ["score", "length", "truncated", *_labels(stage.rewards)]
        case PretrainStage():
            return ["bits_per_byte", "next_token_accuracy"] if stage.test is not None else []
        case SftStage():
            return ["perplexity"] if stage.test is not None else []
        case RewardModelStage():
            told = ["accuracy", "calibration_error", "follows_length", "first_error_f1"]  # the last one of steps
            return told if stage.test is not None else []
        case PreferenceStage():
            return ["accuracy", "calibration_error", "follows_length"] if stage.test is not None else []
        case LabelStage():
            return ["reward"] if stage.steps is None else ["reward", "right"]
        case ReviseStage():
            return ["revised"]
        case CompareStage():
            labels = [contestant.label for contestant in stage.contestants]
            beats = [f"{one} beats {other}" for one in labels for other in labels if one != other]
            return [f"{what} by {judge}" for what in (*labels, *beats) for judge in _labels(stage.rewards)]
        case PlayStage():
            return ["return"]
        case _:
            return []


def check_gates(stages: Sequence[Stage]) -> None:
    """Raises ConfigError for a gate on a figure that its stage does not leave."""
    for place, stage in enumerate(stages):
        known = promised(stage)
        for gate in stage.require:
            figure = condition(gate).figure
            if figure not in known:
                hint = nearest(figure, known) if known else "it leaves none; gate an evaluate stage after it"
                raise ConfigError(f"stage[{place}].require: '{stage.name}' leaves no figure '{figure}': {hint}")


def _labels(rewards: Sequence[Table]) -> list[str]:
    """The names of a stage's rewards, as they stand in its result."""
    return [str(table.get("name") or table.get("type")) for table in rewards]
