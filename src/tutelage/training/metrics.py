"""The numbers of a run: an append-only file, and what each number means in a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from tutelage.data.journal import Journal
from tutelage.training.trackers import Trackers


@dataclass(frozen=True, slots=True)
class Meaning:
    """A metric's name as people say it, and what it says in one sentence."""

    title: str
    sentence: str


MEANINGS: dict[str, Meaning] = {
    "reward": Meaning("Reward", "Mean reward of the step's samples, all components weighted and added."),
    "reward_std": Meaning("Reward spread", "Standard deviation of the reward over the step's samples."),
    "score": Meaning("Score", "Mean of the task's own score, the share of right answers where it is 0 or 1."),
    "bits_per_byte": Meaning(
        "Bits per byte",
        "What a byte of the held-out texts costs under the model; the lower the better, whatever the tokenizer.",
    ),
    "next_token_accuracy": Meaning(
        "Next-token accuracy", "Share of the held-out texts' tokens that are the model's first guess."
    ),
    "entropy": Meaning(
        "Entropy", "How undecided the policy is at each token, in nats; near 0 it has stopped exploring."
    ),
    "kl": Meaning("KL to the reference", "How far the policy has moved from its frozen start, in nats a token."),
    "ratio": Meaning(
        "Probability ratio", "Mean ratio of the policy's to the sampling policy's probability; 1 when on-policy."
    ),
    "clipped": Meaning("Clipped share", "Share of tokens whose probability ratio left the clip range."),
    "length": Meaning("Response length", "Mean number of tokens in a completion."),
    "truncated": Meaning("Truncated share", "Share of completions cut off at the token limit."),
    "loss": Meaning("Loss", "What the optimizer minimises; in RL it hovers around 0 by construction and says little."),
    "pretraining_loss": Meaning(
        "Loss of the shown texts",
        "Mean negative log-likelihood of the texts shown beside the samples, in nats a token.",
    ),
    "test_loss": Meaning("Held-out loss", "Mean negative log-likelihood of the held-out texts, in nats a token."),
    "perplexity": Meaning(
        "Perplexity", "The held-out loss as a number of equally likely tokens; the lower the better."
    ),
    "accuracy": Meaning(
        "Judged as labelled",
        "Share of the step's pairs, answers or steps that the model puts where the labels put them.",
    ),
    "mean_score": Meaning("Mean score", "Mean of the reward model's scores in the step; only differences matter."),
    "margin": Meaning("Margin", "How far the better answer's implicit reward is above the worse one's, on average."),
    "chosen_reward": Meaning("Reward of better answers", "Mean implicit reward of the answers that were preferred."),
    "rejected_reward": Meaning(
        "Reward of worse answers", "Mean implicit reward of the answers that were not preferred."
    ),
    "baseline": Meaning("Baseline", "What an answer's implicit reward is compared with in the step."),
    "mean_gap": Meaning("Mean gap", "Mean margin of the step's pairs, which sets how strongly the next step pulls."),
    "moved": Meaning("KL of the step", "How far the update has moved the policy from the one that sampled, in nats."),
    "step_share": Meaning("Share of the step", "How much of the longest step within the trust region was taken."),
    "refused": Meaning("Refused", "1 where no step lowered the loss within the trust region, so none was taken."),
    "chosen": Meaning("Chosen share", "Share of the tokens that the algorithm learned from, or treats apart."),
    "value_loss": Meaning("Critic's loss", "Mean squared error of the critic's values."),
    "explained_variance": Meaning(
        "Explained variance", "Share of the returns' variance that the critic foresaw; 0 or less: it is of no use."
    ),
    "critic_grad_norm": Meaning("Critic's gradient norm", "Size of the critic's gradient before clipping."),
    "grad_norm": Meaning("Gradient norm", "Size of the gradient before clipping; spikes are warnings."),
    "lr": Meaning("Learning rate", "The step size that the schedule gave."),
    "mismatch": Meaning(
        "Sampler mismatch",
        "Mean absolute difference of the sampler's and the learner's log-probability of a token, "
        "before any truncation; it should be near 0 when on-policy.",
    ),
    "mismatch_max": Meaning(
        "Largest mismatch", "The largest difference of the two log-probabilities over the step's tokens."
    ),
    "failed_share": Meaning("Failed share", "Share of the step's samples whose reward could not be computed."),
    "credit": Meaning(
        "Credit with reward",
        "Correlation of what answers are credited with and what they earned, within groups; near 1, and never below 0.",
    ),
    "failed": Meaning("Failed samples", "Samples whose reward could not be computed; left out, never counted as 0."),
    "zero_spread_groups": Meaning(
        "Groups without spread",
        "Share of prompts whose samples all got the same reward and so teach nothing.",
    ),
    "skipped": Meaning(
        "Skipped share",
        "Share of the rewarded tokens whose advantage was 0, so that they were counted but not computed; metrics of "
        "tokens, such as entropy, are of the others.",
    ),
    "groups": Meaning(
        "Groups asked", "Prompts asked in the step, those asked in place of uninformative ones included."
    ),
    "quarantined": Meaning(
        "Prompts set aside", "Prompts that are asked no more, since none of their answers could be rewarded."
    ),
    "episodes": Meaning("Episodes", "Episodes that ended in the step."),
    "distinct": Meaning("Distinct answers", "Share of a prompt's completions that differ from one another."),
    "tokens": Meaning("Tokens", "Tokens that were learned from in the step."),
    "tokens_per_second": Meaning("Tokens per second", "Completion tokens per second of the whole step."),
    "generate_seconds": Meaning("Time to sample", "Seconds of the step spent on writing completions."),
    "collect_seconds": Meaning("Time to act", "Seconds of the step spent in the environment."),
    "reward_seconds": Meaning(
        "Time to reward", "Seconds waited for scores after sampling; what was scored meanwhile costs none."
    ),
    "learn_seconds": Meaning("Time to learn", "Seconds of the step spent on forward, backward and update."),
    "checkpoint_seconds": Meaning(
        "Wait for a checkpoint", "Seconds that training stood still for the checkpoint of the step before."
    ),
    "overhead_seconds": Meaning(
        "Overhead", "Seconds of the step around sampling, rewards and learning: credit, packing, the record of samples."
    ),
    "step_seconds": Meaning("Step time", "Seconds of the whole step."),
    "generate_gib": Meaning(
        "Memory after sampling", "GiB held when the answers were written; on a GPU the most since the step before."
    ),
    "memory_gib": Meaning(
        "Memory after the step", "GiB held when the step was done; on a GPU the most since the answers were written."
    ),
}


def meaning(name: str) -> Meaning:
    """What a metric means. `reward/NAME` is a component of the reward, `score/NAME` the score of a mixture's part; an
    unknown name stands for itself.
    """
    if name.startswith("reward/"):
        component = name.removeprefix("reward/")
        return Meaning(f"Reward: {component}", f"Mean of the reward component '{component}', unweighted.")
    if name.startswith("score/"):
        part = name.removeprefix("score/")
        return Meaning(f"Score: {part}", f"Mean of the task's own score over the prompts of '{part}'.")
    return MEANINGS.get(name, Meaning(name, ""))


class Metrics:
    """`metrics.jsonl` of a run, one line a step, and the trackers that hear the same numbers.

    `seconds` is the run's time up to the line; after a resume it goes on from the last line kept.
    """

    def __init__(self, folder: Path, trackers: Trackers | None = None) -> None:
        self._journal = Journal(folder / "metrics.jsonl")
        self._trackers = trackers
        self._began = monotonic() - _last_seconds(self._journal.path)

    @property
    def offset(self) -> int:
        """Bytes written so far; it belongs into a checkpoint."""
        return self._journal.offset

    def truncate_to(self, offset: int) -> None:
        """Cuts away what was written after an earlier `offset`."""
        self._journal.truncate_to(offset)
        self._began = monotonic() - _last_seconds(self._journal.path)

    def keep_only(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drops the other lines."""
        self._journal.keep_only(wanted)

    def of(self, stage: str) -> list[dict[str, float]]:
        """The steps of a stage that are on record; what was not finite is nan."""
        with self._journal.path.open("rb") as lines:
            rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        own = [row for row in rows if row["stage"] == stage]
        return [
            {name: math.nan if value is None else value for name, value in row.items() if name != "stage"}
            for row in own
        ]

    def write(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """Appends a step's numbers and forwards them to the trackers. Not finite is written as null."""
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        seconds = round(monotonic() - self._began, 3)
        self._journal.append({"stage": stage, "step": step, "seconds": seconds, **finite})
        if self._trackers is not None:
            self._trackers.log(stage, step, numbers)

    def close(self) -> None:
        """Closes the file and the trackers."""
        self._journal.close()
        if self._trackers is not None:
            self._trackers.close()


def _last_seconds(path: Path) -> float:
    """The time that the run had taken at the last whole line."""
    last = 0.0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                last = float(json.loads(line)["seconds"])
            except (ValueError, KeyError, TypeError):
                continue
    return last
