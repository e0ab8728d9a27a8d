"""Games of a policy against opponents: how an `evaluate` stage tells how well a game is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from tutelage.config import EvaluateStage, RlStage
from tutelage.engines import build_engine
from tutelage.environments import OPPONENTS, Environment, Game, Table, lockstep
from tutelage.errors import ConfigError
from tutelage.evaluation import Scores, summarise
from tutelage.rollouts import play_out, record_samples
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun
from tutelage.types import Group

_IDLE = ("split", "samples", "metrics", "right_from", "rewards", "reward_timeout", "max_failed_share")


def check_match(stage: EvaluateStage, environment: Environment) -> Game | None:
    """The game that an evaluation plays; None where it asks questions. Raises ConfigError where it says neither."""
    where = f"{stage.name}.opponent"
    known = " or ".join(f"'{name}'" for name in OPPONENTS)
    if not isinstance(environment, Game):
        if stage.opponent is not None:
            raise ConfigError(f"{where}: '{stage.environment}' is no game, and has no opponents; leave it out")
        return None
    if stage.opponent is None:
        raise ConfigError(f"{where}: a game is evaluated against somebody; name {known}")
    refuse_idle(stage, _IDLE)
    return environment


def play_match(run: StageRun, game: Game, games: int, stage: EvaluateStage) -> tuple[list[Table], list[Group], float]:
    """The games of the stage's policy against its opponent, its moves, all recorded, and the seconds they took.

    Every evaluation of a run has the same beginnings, and the same noise in its opponents: they can be paired.
    """
    assert stage.opponent is not None, "check_match has refused it"
    run.cut_back(run.start)
    policy = run.load_policy()
    engine = build_engine(run.recipe.engine, policy)
    tables = game.tables(games, stage.opponent, derive_seed(run.recipe.seed, "games"))
    started = perf_counter()
    groups = play_out(
        engine,
        policy.tokenizer,
        lockstep(tables, game.game),
        stage.sampling,
        derive_seed(run.seed, stage.type),
        watch=lambda done, asked: run.progress.progress(done, asked, "moves"),
    )
    seconds = perf_counter() - started
    record_samples(run.samples, stage.name, 0, groups)
    return tables, groups, seconds


def payoffs_of(tables: Sequence[Table]) -> Scores:
    """What the policy has won in each game, by the game's number and the policy's role."""
    seats = [(table, table.seats.index(None)) for table in tables]
    return {f"{table.number:04d} {table.position.roles[seat]}": [table.payoffs[seat]] for table, seat in seats}


def payoffs_by_role(scores: Scores) -> Mapping[str, Any]:
    """The mean payoff of each role with its 95 % interval."""
    roles = dict.fromkeys(name.partition(" ")[2] for name in scores)
    return {
        role: summarise({name: score for name, score in scores.items() if name.endswith(f" {role}")}).numbers
        for role in roles
    }


def refuse_idle(stage: RlStage | EvaluateStage, keys: Sequence[str]) -> None:
    """Raises ConfigError for a key that nothing reads where an environment is played."""
    for key in keys:
        if getattr(stage, key) != type(stage).model_fields[key].default:
            raise ConfigError(
                f"{stage.name}.{key}: '{stage.environment}' is played: it draws its own episodes and says what they "
                "are worth, so nothing would read this; leave it out"
            )
