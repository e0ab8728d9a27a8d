"""The figures that a stage will have found when it is finished: what a gate can ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from tutelage.config.data_stages import LabelStage, RejectionStage, ReviseStage
from tutelage.config.gates import condition
from tutelage.config.learning_stages import PreferenceStage, PretrainStage, RewardModelStage, SftStage
from tutelage.config.part import Table, nearest
from tutelage.config.reporting_stages import (
    CompareStage,
    EvaluateStage,
    PerplexityStage,
    PlayStage,
    PredictStage,
    SycophancyStage,
)
from tutelage.config.stages import Stage
from tutelage.errors import ConfigError


def promised(stage: Stage, environments: Mapping[str, Table]) -> list[str]:
    """The names of the figures that a stage leaves.

    Args:
        environments: the recipe's, by name.
    """
    match stage:
        case EvaluateStage():
            parts = [f"score/{part}" for part in parts_of(environments.get(stage.environment, {}))]
            asked = _labels(stage.rewards) if stage.opponent is None else ["legal"]
            return ["score", "length", "truncated", *parts, *asked, *stage.metrics]
        case PerplexityStage():
            return ["bits_per_byte", "perplexity", "next_token_accuracy"]
        case SycophancyStage():
            return ["accuracy", "repeated", "doubted", "suggested"]
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
        case RejectionStage():
            return ["kept", "none", "reward", "success"]
        case PredictStage():
            return ["accuracy", "nats", *(f"accuracy above {level:g}" for level in stage.levels)]
        case CompareStage():
            labels = [contestant.label for contestant in stage.contestants]
            beats = [f"{one} beats {other}" for one in labels for other in labels if one != other]
            return [f"{what} by {judge}" for what in (*labels, *beats) for judge in _labels(stage.rewards)]
        case PlayStage():
            return ["return"]
        case _:
            return []


def parts_of(environment: Table) -> list[str]:
    """The names of the environments that a mixture's table names; none where it is none."""
    parts = environment.get("parts")
    if environment.get("type") != "mixture" or not isinstance(parts, list):
        return []
    return [str(cast(Table, part).get("environment")) for part in cast(list[object], parts) if isinstance(part, dict)]


def check_gates(stages: Sequence[Stage], environments: Mapping[str, Table]) -> None:
    """Raises ConfigError for a gate on a figure that its stage does not leave."""
    for place, stage in enumerate(stages):
        known = promised(stage, environments)
        for gate in stage.require:
            figure = condition(gate).figure
            if figure not in known:
                hint = nearest(figure, known) if known else "it leaves none; gate an evaluate stage after it"
                raise ConfigError(f"stage[{place}].require: '{stage.name}' leaves no figure '{figure}': {hint}")


def _labels(rewards: Sequence[Table]) -> list[str]:
    """The names of a stage's rewards, as they stand in its result."""
    return [str(table.get("name") or table.get("type")) for table in rewards]
