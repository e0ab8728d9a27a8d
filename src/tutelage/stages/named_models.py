"""Models that a recipe names, a stage's or a folder's: refused where there is none, or where its tokens are others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.config import Stage, nearest
from tutelage.errors import ConfigError, ModelError
from tutelage.models import load_tokenizer


def refuse_unknown_models(names: Sequence[str], earlier: Sequence[Stage], where: str) -> None:
    """Raises ConfigError for a reward model that neither a stage before this one makes nor is a folder."""
    made = [stage.name for stage in earlier if stage.type == "reward-model"]
    for name in names:
        _refuse_unknown(name, made, where, "a reward-model stage before this one")


def refuse_unknown_policy(name: str, known: Sequence[str], where: str) -> None:
    """Raises ConfigError for a policy that is neither one of those known nor a folder."""
    _refuse_unknown(name, known, where, "a stage before this one that leaves a policy")


def refuse_other_tokens(names: Sequence[str], policy: Path, where: str) -> None:
    """Raises ModelError where a folder's tokenizer has other tokens than the policy's: their numbers are scored."""
    words = load_tokenizer(policy).get_vocab()
    for name in filter(_is_folder, names):
        if load_tokenizer(Path(name)).get_vocab() != words:
            raise ModelError(
                f"{where}: the tokenizer of {name} is another than the policy's, and token ids are scored as they were "
                "sampled; train a model that begins with this policy, or one of its family"
            )


def _refuse_unknown(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known and not _is_folder(name):
        raise ConfigError(f"{where}: '{name}' is neither {what} nor a model's folder: {nearest(name, known)}")


def _is_folder(name: str) -> bool:
    return (Path(name) / "config.json").is_file()
