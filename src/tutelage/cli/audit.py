"""`tutelage audit`: a reward out of what the command line names, its questions, and the tables of what came of it."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from tutelage.config import Table, find_recipe, load_object, read_recipe
from tutelage.data import build_prompt_source
from tutelage.environments import Environment, build_environment, environment_of
from tutelage.errors import ConfigError, DataError
from tutelage.rewards import GymReward, Reward, TaskReward, build_reward
from tutelage.rewards.audit import Audit, Kind, Trial, audit, golds_for, share
from tutelage.rewards.base import Fault
from tutelage.rewards.gold import Gold
from tutelage.stages.local_judge import LocalJudge
from tutelage.stages.model_rewards import stage_rewards

_FROM_AN_ENVIRONMENT = 4  # questions
_SHOWN = 12  # answers of each kind of mistake
_ANY_WRONG = "something else entirely"


def audit_rewards(
    console: Console,
    name: str,
    questions: Path | None,
    kind: Kind | None,
    seconds: float | None,
    most: Mapping[str, float],
    as_json: bool,
) -> bool:
    """Audits what `name` stands for and prints what came of it. Is every reward within the shares?"""
    found: list[Audit] = []
    for reward, golds in _named(name, None if questions is None else _read(questions)):
        judge = kind == "judge" or reward.type in ("judge", "local-judge")
        limit = seconds or (60.0 if judge else 1.0)
        with Console(stderr=True).status(f"{reward.label}: playing") as status:
            found.append(
                audit(
                    reward, golds, limit, kind, lambda done, s=status, r=reward: s.update(f"{r.label}: {done} answers")
                )
            )
    if as_json:
        json.dump([_as_json(one, most) for one in found], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        for one in found:
            _show(console, one, most)
    return not any(verdicts(one, most) for one in found)


def verdicts(found: Audit, most: Mapping[str, float]) -> list[str]:
    """What is past its share, in words."""
    shares = {
        "false positives": share(found.false_positives, found.wrong),
        "false negatives": share(found.false_negatives, found.right),
        "failures": share(found.failures, found.trials),
    }
    past = [f"{shares[what]:.1%} {what}, at most {least:.1%}" for what, least in most.items() if shares[what] > least]
    return past + ([f"{len(found.slow)} answers took longer than {found.limit:g} s"] if found.slow else [])


def _named(name: str, own: Sequence[Gold] | None) -> Iterator[tuple[Reward, Sequence[Gold]]]:
    """The rewards that are meant, each with its questions: one's own, the environment's, or the built-in ones."""
    if "#" in name and not name.lstrip().startswith("{"):
        yield from _of_a_stage(*name.split("#", 1), own)
        return
    reward = build_reward(_table(name), "REWARD", {"local-judge": LocalJudge})
    if isinstance(reward, TaskReward):
        raise ConfigError("REWARD: 'task' is an environment's own score; name a recipe's stage instead: RECIPE#STAGE")
    if isinstance(reward, LocalJudge):
        reward = _with_its_model(reward)
    if own is None and isinstance(reward, GymReward):
        table = {"type": "reasoning-gym", "task": reward.task, "config": reward.config}
        own = _asked_by(build_environment(table, "REWARD"))
    yield reward, own or golds_for(reward)


def _table(name: str) -> Table:
    """A reward's table, in any of the ways to write one."""
    try:
        if name.lstrip().startswith("{"):
            return tomllib.loads(f"reward = {name}")["reward"]
        if name.endswith(".toml"):
            return tomllib.loads(Path(name).read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"REWARD: not a TOML table: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from None
    if ":" not in name:
        return {"type": name}
    found = load_object(name, "REWARD")
    own_kind = isinstance(found, type) and issubclass(found, Reward)
    return {"type": name} if own_kind else {"type": "function", "function": name}


def _of_a_stage(recipe: str, name: str, own: Sequence[Gold] | None) -> Iterator[tuple[Reward, Sequence[Gold]]]:
    """The rewards of a recipe's stage, asked its environment's questions."""
    declared = read_recipe(find_recipe(recipe))
    stage = next((stage for stage in declared.stage if stage.name == name and hasattr(stage, "rewards")), None)
    if stage is None:
        raise ConfigError(f"REWARD: '{recipe}' has no stage '{name}' with rewards")
    environment = environment_of(declared, stage.environment)
    golds = own or _asked_by(environment)
    for reward in stage_rewards(stage, stage.rewards, declared, environment):
        if reward.together:
            raise ConfigError(f"REWARD: '{reward.label}' is scored by a model that the run makes; audit its own table")
        yield reward, golds


def _asked_by(environment: Environment) -> list[Gold]:
    """Questions of an environment's test split; a wrong answer is the right one to another question."""
    prompts = [one for one in environment.prompts("test") if one.answer is not None][: 8 * _FROM_AN_ENVIRONMENT]
    different = list({prompt.answer: prompt for prompt in prompts}.values())[:_FROM_AN_ENVIRONMENT]
    if not different:
        raise ConfigError("REWARD: the environment has no questions with gold answers; give your own as --questions")
    others = [*different[1:], different[0]]
    return [
        Gold(one, (other.answer or "") if other is not one else _ANY_WRONG)
        for one, other in zip(different, others, strict=True)
    ]


def _read(path: Path) -> list[Gold]:
    """One's own questions: rows with question and answer, and perhaps a wrong answer and other right ones."""
    prompts = build_prompt_source({"type": "jsonl", "path": str(path)}, "--questions").load()
    answers = [prompt.answer for prompt in prompts]
    golds: list[Gold] = []
    for prompt in prompts:
        if prompt.answer is None:
            raise DataError(f"{prompt.id}: has no answer; an audit needs one to each question")
        given: Any = prompt.meta.get("equivalents", [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise DataError(f"{prompt.id}: equivalents: must be a list of texts")
        wrong: Any = prompt.meta.get("wrong")
        if wrong is None:
            wrong = next((one for one in answers if one != prompt.answer), None) or _ANY_WRONG
        golds.append(Gold(prompt, str(wrong), tuple(given)))
    return golds


def _with_its_model(judge: LocalJudge) -> LocalJudge:
    import torch

    from tutelage.models import fetch, load_policy, pick_compute

    console = Console(stderr=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = fetch(judge.model, console.print)
    return judge.holding(load_policy(folder, pick_compute("auto", device), device))


def _show(console: Console, found: Audit, most: Mapping[str, float]) -> None:
    table = RichTable("answers", "played", "paid for", "not scored", "slowest", title=f"{found.reward}: {found.kind}")
    for family in dict.fromkeys(trial.answer.family for trial in found.trials):
        own = [trial for trial in found.trials if trial.answer.family == family]
        failed = sum(isinstance(trial.score, Fault) for trial in own)
        slowest = max(trial.seconds for trial in own)
        table.add_row(family, str(len(own)), str(sum(t.paid for t in own)), str(failed), f"{1000 * slowest:.0f} ms")
    console.print(table)
    if found.kind == "form":
        console.print(
            f"no answer is right or wrong here; a text without content earns {found.for_nothing:.0%} of the most"
        )
    else:
        for what, some, of in (
            ("false positives", found.false_positives, found.wrong),
            ("false negatives", found.false_negatives, found.right),
        ):
            console.print(f"{what}: {len(some)} of {len(of)} ({share(some, of):.1%})", highlight=False)
    for what in ("false_positives", "false_negatives", "failures", "slow"):
        _list(console, what.replace("_", " "), getattr(found, what))
    past = verdicts(found, most)
    console.print(f"[red]fails[/]: {'; '.join(past)}" if past else "[green]passes[/]", highlight=False)


def _list(console: Console, what: str, trials: Sequence[Trial]) -> None:
    if not trials:
        return
    table = RichTable(what, "name", "question", "answer", "score", "ms")
    for trial in trials[:_SHOWN]:
        shown = repr(trial.answer.text if len(trial.answer.text) < 60 else f"{trial.answer.text[:57]}...")
        score = trial.score.reason[:60] if isinstance(trial.score, Fault) else f"{trial.score:.3g}"
        cells = (trial.answer.family, trial.answer.name, trial.question, shown, score, f"{1000 * trial.seconds:.0f}")
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    console.print(table)
    if len(trials) > _SHOWN:
        console.print(f"and {len(trials) - _SHOWN} more: --json has all of them")


def _as_json(found: Audit, most: Mapping[str, float]) -> dict[str, Any]:
    return {
        "reward": found.reward,
        "kind": found.kind,
        "false_positives": share(found.false_positives, found.wrong),
        "false_negatives": share(found.false_negatives, found.right),
        "failures": share(found.failures, found.trials),
        "for_nothing": found.for_nothing,
        "slowest": found.slowest,
        "past": verdicts(found, most),
        "trials": [
            {
                "question": trial.question,
                "family": trial.answer.family,
                "name": trial.answer.name,
                "text": trial.answer.text[:2000],
                "wanted": trial.answer.wanted,
                "paid": trial.paid,
                "score": None if isinstance(trial.score, Fault) else trial.score,
                "failure": trial.score.reason if isinstance(trial.score, Fault) else None,
                "seconds": trial.seconds,
            }
            for trial in found.trials
        ],
    }
