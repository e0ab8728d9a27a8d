"""What stages leave as data for those after them: judged answers, written and read; conversations, read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tutelage.config import LEAVES, Kind, LabelStage, Recipe, Stage, Table, nearest
from tutelage.data import Conversation, build_conversation_source
from tutelage.data.preferences import Judged
from tutelage.errors import ConfigError, NothingToLearnError
from tutelage.stages.context import StageRun
from tutelage.types import Message, Prompt

CONVERSATIONS: Final = "conversations.jsonl"  # what a rejection stage leaves


def maker(
    table: Table, recipe: Recipe, stage: str, where: str, kinds: Sequence[Kind] = ("judged answers",)
) -> Stage | None:
    """The stage whose data a source `{ type = "stage", stage = NAME }` names; None for any other source.

    Raises:
        ConfigError: no stage before this one leaves such data.
    """
    if table.get("type") != "stage":
        return None
    wrong = table.keys() - {"type", "stage", "least"}
    known = {other.name: other for other in recipe.before(stage) if LEAVES[other.type] in kinds}
    if wrong or table.get("stage") not in known:
        hint = nearest(str(table.get("stage")), list(known))
        types = " or ".join(kind for kind, left in LEAVES.items() if left in kinds)
        raise ConfigError(
            f'{where}: wanted {{ type = "stage", stage = a {types} stage before this one }}, for sft after a label or '
            f"revise stage with least = the least score of a prompt's best answer (given: {table}); {hint}"
        )
    return known[table["stage"]]


def labels_whole_answers(
    table: Table, recipe: Recipe, stage: str, where: str, kinds: Sequence[Kind] = ("judged answers",)
) -> bool:
    """Does a stage before make the source, of whole answers? Raises ConfigError where it labels their steps."""
    named = maker(table, recipe, stage, where, kinds)
    if isinstance(named, LabelStage) and named.steps is not None:
        raise ConfigError(
            f"{where}: stage '{named.name}' labels the steps of answers, which only a reward-model stage learns from; "
            "leave its steps out, or add a label stage of whole answers"
        )
    if named is not None and LEAVES[named.type] == "conversations" and "least" in table:
        raise ConfigError(f"{where}.least: '{named.name}' has chosen already; set the key of that stage")
    return named is not None


def write_labels(run: StageRun, judged: Iterable[Judged]) -> str:
    """Writes judged answers for stages after this one, whole or not at all. Returns the path in the run's folder."""
    path = run.folder / "judged.jsonl"
    beside = run.folder / ".judged.partial"
    beside.write_text("".join(json.dumps(_row(one)) + "\n" for one in judged), encoding="utf-8")
    beside.replace(path)
    return str(path.relative_to(run.folder.parent.parent))


def labelled(path: Path) -> list[Judged]:
    """What such a stage left: steps, or whole answers but for prompts to which no two were judged apart."""
    rows = _rows(path)
    if not rows:
        raise NothingToLearnError(f"{path}: no answer could be judged; look at the stage's samples")
    if any("labels" in row for row in rows):
        return [Judged(_prompt(row), tuple(row["completions"]), tuple(row["labels"]), stepwise=True) for row in rows]
    found: list[Judged] = []
    for row in rows:
        answers = dict(zip(row["answers"], row["scores"], strict=True))
        if len(set(answers.values())) > 1:
            found.append(Judged(_prompt(row), tuple(answers), tuple(answers.values())))
    if not found:
        raise NothingToLearnError(f"{path}: to no prompt were two answers judged apart; sample more answers to each")
    return found


def left_conversations(path: Path, least: float) -> list[Conversation]:
    """What a rejection stage has chosen, or of judged answers each prompt's best, where that is worth `least`."""
    if path.name == CONVERSATIONS:
        return build_conversation_source({"type": "jsonl", "path": str(path)}, path.parent.name).load_conversations()
    return best_answers(path, least)


def best_answers(path: Path, least: float) -> list[Conversation]:
    """Each prompt with the best of its answers, where that is worth `least`: rejection sampling."""
    found: list[Conversation] = []
    for row in _rows(path):
        score, answer = max(zip(row["scores"], row["answers"], strict=True))
        prompt = _prompt(row)
        if score < least:
            continue
        if prompt.text is not None:
            found.append(Conversation(prompt.id, prompt=prompt.text, completion=answer))
        else:
            found.append(Conversation(prompt.id, messages=(*prompt.messages, Message("assistant", answer))))
    if not found:
        raise NothingToLearnError(f"{path}: no answer is worth least = {least}; lower it, or sample more answers")
    return found


def _row(judged: Judged) -> dict[str, Any]:
    prompt = judged.prompt
    turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
    asked = {"prompt": prompt.text} if prompt.text is not None else {"messages": turns}
    answers, scores = ("completions", "labels") if judged.stepwise else ("answers", "scores")
    return {"id": prompt.id, **asked, answers: judged.answers, scores: judged.scores}


def _rows(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _prompt(row: Mapping[str, Any]) -> Prompt:
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row.get("messages", ()))
    return Prompt(row["id"], messages, row.get("prompt"))
