"""Numbers that are not finite: whose fault they are, and what is kept of them.

Every stage's updates come by here, so each names the sample, the token's position and the term, in the same words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tutelage.errors import NonFiniteError
from tutelage.training.state import State
from tutelage.types import Batch, Loss

_FIELDS = {
    "sampler": "the sampler's log-probability",
    "behaviour": "the learner's log-probability",
    "reference": "the reference's log-probability",
    "predicted": "the critic's value",
    "rewards": "the reward",
    "judged": "the judgement",
    "returns": "the return",
    "advantages": "the advantage",
}
"""Fields of a batch in words, causes before what is computed of them."""


def check_fields(batch: Batch) -> None:
    """Raises NonFiniteError where something that a micro-batch brings along is not finite."""
    for name in sorted(batch.fields, key=lambda name: [*_FIELDS, name].index(name)):
        values_A = batch.fields[name]
        if not torch.isfinite(values_A.sum()):  # one pass where all is well; a sum of finite ones may overflow
            _raise_for(batch, _FIELDS.get(name, f"the field '{name}'"), values_A)


def fault_of_loss(batch: Batch, losses: Sequence[Loss], where: str) -> NonFiniteError:
    """The error of a loss that is not finite.

    At fault is the first term that is not finite itself; else the first action in whose term the loss has a slope that
    is not: there it overflowed.
    """
    for loss in losses:
        for name, values_A in loss.terms.items():
            if (error := _error_for(batch, name, values_A)) is not None:
                return error
    for loss in losses:
        for name, slope_A in _slopes(loss).items():
            if (error := _error_for(batch, f"the loss's slope in {name}", slope_A)) is not None:
                return error
    totals = ", ".join(str(loss.total.item()) for loss in losses)
    return NonFiniteError(f"the loss of {where} is {totals}, and no token's term is at fault", {"term": "the loss"})


def fault_of_gradient(
    state: State, batches: Sequence[Batch], losses_of: Callable[[Batch], Sequence[Loss]]
) -> NonFiniteError:
    """The error of a gradient that is not finite though the losses are. Computes them again, one by one.

    At fault is the first action in whose term a loss has such a slope; else the model's own backward pass, and all that
    can be told is the first weight.
    """
    unknown = [
        name for name, master in state.weights.items() if master.grad is not None and not _is_finite(master.grad)
    ]
    for batch in batches:
        for loss in losses_of(batch) if batch.acted else ():
            for name, slope_A in _slopes(loss).items():
                if (error := _error_for(batch, f"the loss's slope in {name}", slope_A)) is not None:
                    return error
    weight = unknown[0] if unknown else "the weights together"
    return NonFiniteError(
        f"the gradient of {weight} is not finite, though the losses and their slopes in every token are: it overflowed "
        "on its way back through the model",
        {"term": f"the gradient of {weight}"},
    )


def keep_evidence(folder: Path, step: int, batches: Sequence[Batch], error: NonFiniteError) -> str:
    """Keeps the micro-batches of an update that was not applied, and what was found, and says where.

    `failed-step-NNNNNN.safetensors` has their tensors as `MICROBATCH/NAME`, the JSON beside it the rest.
    """
    path = folder / f"failed-step-{step:06d}.json"
    about = {
        "step": step,
        "message": str(error),
        **error.found,
        "microbatches": [{"names": list(getattr(batch, "names", ()))} for batch in batches],
    }
    tensors = {
        f"{number}/{name}": tensor.detach().cpu().contiguous().clone()
        for number, batch in enumerate(batches)
        for name, tensor in _tensors(batch).items()
    }
    try:
        save_file(tensors, path.with_suffix(".safetensors"))
        beside = path.with_name(f".{path.name}.partial")
        beside.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except (OSError, SafetensorError) as fault:  # what went wrong first is what counts
        return f"step {step} was not applied; its batch could not be kept: {fault}"
    return f"step {step} was not applied, and its batch is kept in {path}"


def _tensors(batch: Batch) -> Mapping[str, Tensor]:
    own = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {**{name: value for name, value in own.items() if isinstance(value, Tensor)}, **batch.fields}


def _slopes(loss: Loss) -> dict[str, Tensor]:
    """The slope of a loss in each of its terms that has one."""
    terms = {name: term for name, term in loss.terms.items() if term.requires_grad}
    if not terms or not loss.total.requires_grad:
        return {}
    slopes = torch.autograd.grad(loss.total, list(terms.values()), retain_graph=True, allow_unused=True)
    return {name: slope_A for name, slope_A in zip(terms, slopes, strict=True) if slope_A is not None}


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _raise_for(batch: Batch, term: str, values_A: Tensor) -> None:
    if (error := _error_for(batch, term, values_A)) is not None:
        raise error


def _error_for(batch: Batch, term: str, values_A: Tensor) -> NonFiniteError | None:
    """The error that names the first action whose value is not finite; None where all are."""
    wrong = (~torch.isfinite(values_A.detach().flatten())).nonzero()
    if not len(wrong):
        return None
    place = int(wrong[0])
    value = values_A.detach().flatten()[place].item()
    found = {"term": term, "value": str(value), "others": len(wrong) - 1, **_whereabouts(batch, place)}
    token = f", token {found['token']}" if "token" in found else ""
    others = f"; so are {len(wrong) - 1} more of the micro-batch" if len(wrong) > 1 else ""
    where = f"sample {found['sample']}, position {found['position']}{token}"
    return NonFiniteError(f"{term} is {value} at {where}{others}", found)


def _whereabouts(batch: Batch, place: int) -> dict[str, object]:
    """Which sample an action is of, which position of the sample's own tokens it has, and which token it is."""
    sequence = int(batch.sequence_A[place])
    names = getattr(batch, "names", ())
    if not isinstance(batch, Batch):  # a stretch of an environment's steps
        return {"sample": f"stretch {sequence}", "position": int((batch.sequence_A[:place] == sequence).sum())}
    index = int(batch.action_A[place])
    start = max(span.start for span in batch.spans if span.start <= index)
    named = names[sequence] if sequence < len(names) and names[sequence] else f"row {batch.rows[sequence]}"
    return {"sample": named, "position": index - start, "token": int(batch.tokens_N[index])}
