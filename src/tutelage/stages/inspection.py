"""What became of single tokens: for a few samples of some steps, every number that the update saw of each token.

DIR/stages/NN-NAME/inspect/step-000010.json is one step's, written whole. Which samples: the first of the step in the
order asked, a function of the step's number, so a resumed run writes the same files again.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tutelage.algorithms import Algorithm, observed
from tutelage.config import Record
from tutelage.data.packing import Row
from tutelage.functional import kl
from tutelage.rollouts import question
from tutelage.types import Actions, Batch, Group, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST = 2048  # tokens of a sample that are kept
_FIELD = "inspected"

FATES = ("learned", "no credit", "corrected away", "clipped above", "clipped below", "not chosen", "weight clipped")
"""What an update did with a token, by number. The page says each in a sentence."""


@dataclass(slots=True)
class _Followed:
    """A sample that is followed through the step."""

    group: Group
    sample: Sample
    row: int | None  # among the step's rows; None: its reward failed, so there is none
    skipped: bool = False
    columns: dict[str, list[float | None]] = field(default_factory=dict[str, "list[float | None]"])
    fates: list[int] = field(default_factory=list[int])


class Inspection:
    """Follows samples through the updates of a step. Changes nothing that is learned; a full disk costs only its files.

    Numbers are those of the last update that a sample took part in.
    """

    def __init__(
        self,
        settings: Record,
        folder: Path,
        total_steps: int,
        algorithm: Algorithm,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self._settings, self._folder, self._last = settings, folder, total_steps
        self._algorithm, self._tokenizer = algorithm, tokenizer
        self._followed: list[_Followed] = []

    def begin(self, step: int, groups: Sequence[Group], rows: Sequence[Row]) -> list[Row]:
        """Chooses the samples of step `step` (from 1) and marks their rows. `rows`: the groups' rewarded samples."""
        self._followed = []
        wanted = step % self._settings.every == 1 % self._settings.every or step == self._last
        if not wanted or not self._settings.inspect:
            return list(rows)
        row = 0
        for group, sample in ((whole, one) for whole in groups for one in whole.samples):
            if len(self._followed) == self._settings.inspect:
                break
            rewarded = sample.reward is not None
            skipped = rewarded and rows[row].skipped
            self._followed.append(_Followed(group, sample, row if rewarded else None, skipped))
            row += rewarded
        chosen = {one.row: number for number, one in enumerate(self._followed) if one.row is not None}
        return [replace(r, fields={**r.fields, _FIELD: float(chosen.get(i, -1))}) for i, r in enumerate(rows)]

    def see(self, batch: Batch, actions: Actions) -> None:
        """Keeps what an update sees of the followed samples that are in one of its micro-batches."""
        numbers_A = batch.fields.get(_FIELD)
        if numbers_A is None or not bool((numbers_A >= 0).any()):
            return
        columns_A, fates_A = self._columns(batch, actions)
        for number in numbers_A[numbers_A >= 0].unique().int().tolist():
            own_A = (numbers_A == number).nonzero()[:_LONGEST, 0]
            one = self._followed[number]
            one.columns = {name: _rounded(column_A[own_A]) for name, column_A in columns_A.items()}
            one.fates = fates_A[own_A].tolist()

    def end(self, stage: str, step: int) -> None:
        """Writes what was seen in the step."""
        if not self._followed:
            return
        record = {
            "stage": stage,
            "step": step,
            "algorithm": self._algorithm.type,
            "samples": [self._told(one) for one in self._followed],
        }
        path = self._folder / f"step-{step:06d}.json"
        beside = path.with_name(f".{path.name}.partial")
        try:
            self._folder.mkdir(exist_ok=True)
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            beside.write_text(text, encoding="utf-8", errors="replace")
            os.replace(beside, path)
        except OSError as error:
            warnings.warn(f"{path}: {error.strerror}; training goes on without it", RuntimeWarning, stacklevel=2)
        self._followed = []

    def _columns(self, batch: Batch, actions: Actions) -> tuple[dict[str, Tensor], Tensor]:
        """By name [A] on the CPU: what is known of each action; and [A] its fate, by its place in FATES."""
        push_A, values_A = push_of(self._algorithm, actions)
        logprobs_A = actions.logprobs_A
        field_A, seen_A = batch.fields, {name: value_A.cpu().float() for name, value_A in values_A.items()}
        learner_A, credit_A = logprobs_A.detach().cpu().float(), field_A["advantages"]
        ratio_A = seen_A.get("ratio", (learner_A - actions.behaviour_A.detach().cpu().float()).exp())
        columns_A = {
            "sampler": field_A["sampler"],
            "learner": learner_A,
            "ratio": ratio_A,
            "mismatch": field_A.get("behaviour", learner_A) - field_A["sampler"],
            "advantage": credit_A,
            "push": push_A.cpu().float(),
            "entropy": actions.entropy_A.detach().cpu().float(),
        }
        if "reference" in field_A:
            columns_A["kl"] = kl.k3(learner_A, field_A["reference"])
        for name, source in (("value", "predicted"), ("return", "returns")):
            if source in field_A:
                columns_A[name] = field_A[source]
        weighed_A = actions.advantages_A.detach().cpu().float()
        return columns_A, _fates(columns_A, weighed_A, seen_A)

    def _told(self, one: _Followed) -> dict[str, Any]:
        sample = one.sample
        tokens = sample.tokens[:_LONGEST]
        columns = one.columns or {"sampler": _rounded(torch.tensor(sample.logprobs[:_LONGEST]))}
        if sample.token_rewards:
            columns["earned"] = _rounded(torch.tensor(sample.token_rewards[:_LONGEST]))
        return {
            "prompt_id": sample.prompt_id,
            "index": sample.index,
            "prompt": question(one.group.prompt),
            "answer": one.group.prompt.answer,
            "pieces": pieces(self._tokenizer, tokens),
            "left_out": len(sample.tokens) - len(tokens),
            "finish": sample.finish,
            "reward": sample.reward,
            "rewards": sample.rewards,
            "failure": sample.failure,
            "skipped": one.skipped,
            "expert": sample.expert,
            "columns": columns,
            "fates": one.fates,
        }


def push_of(algorithm: Algorithm, actions: Actions) -> tuple[Tensor, dict[str, Tensor]]:
    """[A] minus the slope of an algorithm's loss in each log-probability, and by name the [A] values that it reports.

    The anchor pulls at every token, clipped or not: what credit alone does is seen without it, and without the bonus.
    """
    plain = algorithm.model_copy(update={"kl": 0.0, "entropy_bonus": 0.0})
    logprobs_A = actions.logprobs_A.detach().requires_grad_()
    fixed = replace(
        actions,
        logprobs_A=logprobs_A,
        entropy_A=actions.entropy_A.detach(),
        kl_A=None if actions.kl_A is None else actions.kl_A.detach(),
    )
    with torch.enable_grad(), observed() as values_A:
        (push_A,) = torch.autograd.grad(-plain.loss(fixed).total, logprobs_A, allow_unused=True)
    return torch.zeros_like(logprobs_A) if push_A is None else push_A, values_A


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """Each token as the text that it stands for; a part of a character is a replacement character."""
    names = tokenizer.convert_ids_to_tokens(list(tokens))
    texts = [tokenizer.decode([token], skip_special_tokens=False) for token in tokens]
    # Tokenizers of the sentencepiece kind drop the space before what they take for the first word.
    return [
        f" {text}" if name.startswith("▁") and not text.startswith(" ") else text
        for name, text in zip(names, texts, strict=True)
    ]


def _fates(columns_A: Mapping[str, Tensor], weighed_A: Tensor, seen_A: Mapping[str, Tensor]) -> Tensor:
    """[A] what the update did with each token. Later lines overrule earlier ones."""
    ratio_A, pushed_A = columns_A["ratio"], columns_A["push"] != 0
    clipped_A = seen_A["clipped"].bool() if "clipped" in seen_A else torch.zeros_like(pushed_A)
    fate_A = torch.full(ratio_A.shape, FATES.index("not chosen"))
    fate_A[pushed_A] = FATES.index("learned")
    fate_A[clipped_A & pushed_A] = FATES.index("weight clipped")
    fate_A[clipped_A & ~pushed_A & (ratio_A > 1)] = FATES.index("clipped above")
    fate_A[clipped_A & ~pushed_A & (ratio_A <= 1)] = FATES.index("clipped below")
    fate_A[~pushed_A & (weighed_A == 0)] = FATES.index("corrected away")
    fate_A[~pushed_A & (columns_A["advantage"] == 0)] = FATES.index("no credit")
    return fate_A


def _rounded(values: Tensor) -> list[float | None]:
    """Four digits: more cannot be seen in a colour. What is not finite is None."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]
