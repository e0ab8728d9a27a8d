"""Do models that read one another's tokens have the same ones? It is known before a weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.config import CompareStage, Recipe, Stage, references
from tutelage.errors import ModelError
from tutelage.models import load_tokenizer
from tutelage.stages import LocalJudge, Plan, is_model_folder


@dataclass(frozen=True, slots=True)
class Shared:
    """Somebody's tokens, which another model reads as they were sampled."""

    where: str  # the key that names the reader
    reader: str
    writer: str | None  # None: the stage's own policy


def check_vocabularies(stages: Sequence[Plan], recipe: Recipe, folders: Mapping[str, Path]) -> None:
    """Raises ModelError where a model would read token ids that mean something else to it, or a judge cannot judge.

    Args:
        folders: of the models that are known by now and that no other descends from, by name.
    """
    for plan in stages:
        stage = plan.stage
        for shared in _shared(stage, recipe):
            reads, wrote = (_folder(name, stage, recipe, folders) for name in (shared.reader, shared.writer))
            if reads is not None and wrote is not None and reads != wrote and _vocabulary(reads) != _vocabulary(wrote):
                whose = "the policy's" if shared.writer is None else f"that of '{shared.writer}'"
                raise ModelError(
                    f"{stage.name}.{shared.where}: the tokenizer of '{shared.reader}' is another than {whose}, and "
                    f"token ids are read as they were sampled; {_remedy(shared.where)}"
                )
        for i, judge in _judges(plan):
            folder = _folder(judge.model, stage, recipe, folders)
            if folder is not None:
                judge.refuse_tokenizer(folder, f"{stage.name}.rewards[{i}]")


def _shared(stage: Stage, recipe: Recipe) -> Iterator[Shared]:
    """Who reads whose tokens. A local judge reads texts; what a stage begins with is its policy."""
    contestants = [one.model for one in stage.contestants] if isinstance(stage, CompareStage) else []
    texts = [f"rewards[{i}]." for i, table in enumerate(getattr(stage, "rewards", ())) if _reads_texts(table)]
    for reference in references(stage, recipe.environments):
        where, name = reference.where, reference.name
        own = where == "start" or where in [f"contestants[{i}].model" for i in range(len(contestants))]
        if own or not {"policy", "reward model"} & {*reference.wanted} or where.startswith(tuple(texts)):
            continue
        chosen = [model for i, model in enumerate(contestants) if where == f"contestants[{i}].by"]
        yield from (Shared(where, name, writer) for writer in chosen or contestants or [None])


def _reads_texts(table: Mapping[str, object]) -> bool:
    return table.get("type") == LocalJudge.model_fields["type"].default


def _judges(plan: Plan) -> Iterator[tuple[int, LocalJudge]]:
    rewards = getattr(plan, "rewards", ())
    return ((i, reward) for i, reward in enumerate(rewards) if isinstance(reward, LocalJudge))


def _folder(name: str | None, stage: Stage, recipe: Recipe, folders: Mapping[str, Path]) -> Path | None:
    """Where the tokenizer of a model lies, which is that of the model it comes from; None: that is not known yet."""
    made = {other.name: other for other in recipe.stage}
    root = recipe.root(stage) if name is None else recipe.root(made[name]) if name in made else name
    if root is None:
        return None
    return folders.get(root, Path(root) if is_model_folder(root) else None)


def _vocabulary(folder: Path) -> dict[str, int]:
    return load_tokenizer(folder).get_vocab()


def _remedy(where: str) -> str:
    if where == "reference.model":
        return "let it teach by text: a `rejection` or `label` stage that starts with it, then `sft`"
    return "take a model that begins with the same one, or one of its family"
