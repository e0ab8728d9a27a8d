"""Which recorded tokens a page shows, and what each of their numbers means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.report.read import Row, Run, StageRecord, read_json
from tutelage.report.samples import evenly, in_script
from tutelage.stages.inspection import FATES

_STEPS = 24  # of a run, to begin with; fewer where they would make the page too heavy
_BYTES = 700_000
_PROMPT = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a token: its name as people say it, what it says, and how it is coloured."""

    title: str
    sentence: str
    scale: Literal["signed", "low", "high", "ratio", "fate"]  # of both signs, or telling where it is low, or high


QUANTITIES: Mapping[str, Quantity] = {
    "fate": Quantity("Learned, clipped or masked", "What the last update did with the token, and why.", "fate"),
    "advantage": Quantity("Advantage", "How much better than expected the token's answer was credited.", "signed"),
    "push": Quantity(
        "Push", "How strongly the loss raises (above 0) or lowers the token's log-probability, without the anchor.",
        "signed",
    ),
    "sampler": Quantity("Sampler's log-probability", "The log-probability the token was drawn with, in nats.", "low"),
    "learner": Quantity("Learner's log-probability", "What the policy gave it in the step's last update.", "low"),
    "ratio": Quantity("Probability ratio", "The policy's probability by the one the loss divides by.", "ratio"),
    "mismatch": Quantity(
        "Sampler mismatch", "The learner's log-probability less the sampler's, before any update of the step.", "signed"
    ),
    "entropy": Quantity("Entropy", "How undecided the policy was at that place, in nats.", "high"),
    "kl": Quantity("KL to the reference", "An estimate (k3) of how far the policy has moved there, in nats.", "high"),
    "value": Quantity("Value", "What the critic expected of the answer before the token.", "signed"),
    "return": Quantity("Return", "What the critic is taught to expect there.", "signed"),
    "earned": Quantity("Reward of the token", "What reward components tell of this token alone.", "signed"),
}  # fmt: skip
"""In the order offered."""

FATES_IN_WORDS: Mapping[str, str] = {
    "learned": "learned from",
    "no credit": "its advantage is 0, so it teaches nothing",
    "corrected away": "masked: sampler and learner disagree by more than the correction allows",
    "clipped above": "clipped: its probability had already risen beyond the clip range, and its advantage is positive",
    "clipped below": "clipped: its probability had already fallen beyond the clip range, and its advantage is negative",
    "not chosen": "masked: not among the tokens that the algorithm learns from",
    "weight clipped": "learned from, with its weight cut to the bound",
}


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the page's inspector is filled with."""

    data: str  # JSON that is safe inside a <script> element
    shown: int  # steps
    total: int


def inspection(run: Run) -> Inspected:
    """Steps of every stage that recorded some, evenly over the run, the first and the last among them."""
    files = [(stage, path) for stage in run.stages for path in recorded(run, stage)]
    limit = _STEPS
    while True:
        steps = [step for _, path in evenly(files, limit) if (step := _step(path)) is not None]
        table = {
            "quantities": {name: asdict(quantity) for name, quantity in QUANTITIES.items()},
            "fates": [[name, FATES_IN_WORDS[name]] for name in FATES],
            "steps": steps,
        }
        data = in_script(table)
        if len(data) <= _BYTES or limit == 1:
            return Inspected(data, len(steps), len(files))
        limit //= 2


def recorded(run: Run, stage: StageRecord) -> Sequence[Path]:
    """The files of a stage's recorded steps, in their order."""
    return sorted((run.folder / "stages" / f"{stage.number:02d}-{stage.name}" / "inspect").glob("step-*.json"))


def _step(path: Path) -> Row | None:
    """One step's record, as far as the page needs it; None where it is torn or none."""
    found = read_json(path)
    samples = None if found is None else found.get("samples")
    if found is None or not isinstance(samples, list):
        return None
    kept = [_sample(sample) for sample in samples if isinstance(sample, dict) and _whole(sample)]
    return {**{name: found.get(name) for name in ("stage", "step", "algorithm")}, "samples": kept}


def _whole(sample: Mapping[str, Any]) -> bool:
    """Does every column have a number for each token?"""
    pieces, columns = sample.get("pieces"), sample.get("columns")
    return (
        isinstance(pieces, list)
        and isinstance(columns, dict)
        and all(isinstance(column, list) and len(column) == len(pieces) for column in columns.values())
    )


def _sample(sample: Row) -> Row:
    return {**sample, "prompt": str(sample.get("prompt") or "")[:_PROMPT]}
