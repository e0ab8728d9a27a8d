"""Groups of rewarded samples as rows to learn from, and as the experience that credit is given on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tutelage.algorithms import Algorithm
from tutelage.data.packing import Row
from tutelage.functional.advantages import group_centred
from tutelage.functional.reductions import sequence_sums
from tutelage.types import Batch, Credit, Experience, Group

T = TypeVar("T")


def turns(
    algorithm: Algorithm, step: int, whole: Sequence[Any], updates: Iterable[Sequence[Any]]
) -> Iterator[tuple[Sequence[Any], set[str]]]:
    """The micro-batches of each update of a step, and who learns in it: the policy, the critic or both.

    In its first steps a critic may learn alone. Under a trust region the policy takes one step on everything, and the
    updates are the critic's.
    """
    critic = algorithm.needs_critic
    if critic is not None and step < critic.warmup:
        yield from ((batches, {"critic"}) for batches in updates)
    elif algorithm.trust_region is None:
        yield from ((batches, {"policy", "critic"}) for batches in updates)
    else:
        yield whole, {"policy"}
        if critic is not None:
            yield from ((batches, {"critic"}) for batches in updates)


def rewards_of(groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
    """rewards_PG, valid_PG: what each sample earned (0 where its reward failed), and whether it was rewarded."""
    rewards = _filled([[sample.reward for sample in group.samples] for group in groups], None)
    valid_PG = torch.tensor([[reward is not None for reward in some] for some in rewards])
    return torch.tensor([[reward or 0.0 for reward in some] for some in rewards]), valid_PG


def _filled(rows: Sequence[Sequence[T]], value: T) -> list[list[T]]:
    """Rows of one length: those of groups with fewer samples are filled up."""
    longest = max(map(len, rows), default=0)
    return [[*row, *[value] * (longest - len(row))] for row in rows]


def rows_of(groups: Sequence[Group], fresh: int | None = None) -> list[Row]:
    """One row for each rewarded sample, group by group.

    Args:
        fresh: groups after so many are of earlier steps; None: all are of this one.
    """
    again = fresh is not None and fresh < len(groups)
    guided = any(sample.expert for group in groups for sample in group.samples)
    return [
        Row(
            group.prompt_tokens,
            tuple(sample.tokens),
            number,
            fields={
                "sampler": sample.logprobs,
                "rewards": sample.reward,
                **({"expert": float(sample.expert)} if guided else {}),
                **({"replayed": float(number >= (fresh or 0))} if again else {}),
            },
            name=f"{sample.prompt_id}/{sample.index}",
        )
        for number, group in enumerate(groups)
        for sample in group.samples
        if sample.reward is not None
    ]


def experience_of(groups: Sequence[Group], rows: Sequence[Row], greedy_P: Tensor | None) -> Experience:
    """What the groups did and earned. `rows` are theirs, with what policy, reference and critic say of them."""
    rewards_PG, valid_PG = rewards_of(groups)
    lengths = torch.tensor([len(row.tokens) for row in rows])
    sequence_A = valid_PG.flatten().nonzero()[:, 0].repeat_interleave(lengths)
    process_A = _process_of(groups)
    rewards_A = torch.zeros(len(sequence_A)) if process_A is None else process_A.clone()
    # What is left of an answer's reward stands at its last token.
    left_B = rewards_PG.flatten() - sequence_sums(rewards_A, sequence_A, rewards_PG.numel())
    ended = lengths > 0
    rewards_A[lengths.cumsum(0)[ended] - 1] += left_B[valid_PG.flatten()][ended]

    def column(name: str) -> Tensor | None:
        if not rows or name not in rows[0].fields:
            return None
        return torch.cat([torch.as_tensor(row.fields[name], dtype=torch.float32) for row in rows])

    truncated = _filled([[sample.finish == "length" for sample in group.samples] for group in groups], False)
    role_P, episode_PG = _parts(groups)
    behaviour_A = column("behaviour")
    sampler_A = column("sampler")
    return Experience(
        rewards_PG=rewards_PG,
        valid_PG=valid_PG,
        truncated_PG=torch.tensor(truncated),
        sequence_A=sequence_A,
        rewards_A=rewards_A,
        process_A=process_A,
        behaviour_A=sampler_A if behaviour_A is None else behaviour_A,
        after_B=torch.zeros(rewards_PG.numel()),  # an answer is an episode: nothing comes after it
        reference_A=column("reference"),
        values_A=column("predicted"),
        greedy_P=greedy_P,
        role_P=role_P,
        episode_PG=episode_PG,
    )


def _process_of(groups: Sequence[Group]) -> Tensor | None:
    """[A] what the tokens of the rewarded samples earned by themselves; None where no reward tells."""
    rewarded = [sample for group in groups for sample in group.samples if sample.reward is not None]
    if not any(sample.token_rewards for sample in rewarded):
        return None
    return torch.tensor([own for sample in rewarded for own in sample.token_rewards or [0.0] * len(sample.tokens)])


def _parts(groups: Sequence[Group]) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """role_P, episode_PG of self-play: whose part each group is, and which game each sample is a move of."""
    if any(group.role is None for group in groups):
        return None, None
    roles = sorted({str(group.role) for group in groups})
    episodes = _filled([[-1 if s.episode is None else s.episode for s in group.samples] for group in groups], -1)
    return torch.tensor([roles.index(str(group.role)) for group in groups]), torch.tensor(episodes)


def credit_with_reward(experience: Experience, advantages_A: Tensor) -> float | None:
    """Correlation of what answers are credited with, per token, and what they earned, within groups.

    Among all answers where no group has two; None where rewards or credit do not vary. No algorithm credits against the
    reward, so a sign that is wrong somewhere shows at once.
    """
    valid_PG, answers = experience.valid_PG, experience.rewards_PG.numel()
    lengths_B = torch.bincount(experience.sequence_A, minlength=answers)
    own_B = sequence_sums(advantages_A, experience.sequence_A, answers) / lengths_B.clamp(min=1)
    valid_PG = valid_PG & (lengths_B > 0).view_as(valid_PG)
    if not (valid_PG.sum(1) > 1).any():
        valid_PG, shape = valid_PG.view(1, -1), (1, -1)
    else:
        shape = valid_PG.shape
    earned_PG, own_PG = (
        group_centred(values.view(shape).float(), valid_PG) for values in (experience.rewards_PG, own_B)
    )
    size = (earned_PG.norm() * own_PG.norm()).item()
    return (earned_PG * own_PG).sum().item() / size if size > 0.0 else None


def scaled(experience: Experience) -> Experience:
    """The experience with its rewards divided by the standard deviation of what its sequences earned."""
    earned = experience.rewards_PG[experience.valid_PG]
    deviation = earned.std() if len(earned) > 1 else torch.zeros(())
    if deviation == 0:
        return experience
    process_A = None if experience.process_A is None else experience.process_A / deviation
    rewards_A, rewards_PG = experience.rewards_A / deviation, experience.rewards_PG / deviation
    return replace(experience, rewards_A=rewards_A, rewards_PG=rewards_PG, process_A=process_A)


def credited(rows: Sequence[Row], credit: Credit, algorithm: Algorithm) -> list[Row]:
    """The rows with their credit; those that can add nothing are marked to be skipped."""
    lengths = [len(row.tokens) for row in rows]
    advantages = credit.advantages_A.split(lengths)
    returns = None if credit.returns_A is None else credit.returns_A.split(lengths)
    done: list[Row] = []
    for number, row in enumerate(rows):
        own: dict[str, Sequence[float]] = {"advantages": advantages[number].tolist()}
        if returns is not None:
            own["returns"] = returns[number].tolist()
        skipped = not algorithm.needs_zero_advantage and not advantages[number].any()
        done.append(replace(row, fields={**row.fields, **own}, skipped=skipped))
    return done


def with_scores(rows: Sequence[Row], batches: Sequence[Batch], scores: Sequence[Mapping[str, Tensor]]) -> list[Row]:
    """The rows with the [A] scores of the batches that they were packed into."""
    done = list(rows)
    for batch, named in zip(batches, scores, strict=True):
        lengths = [len(rows[index].actions) for index in batch.rows]
        parts = {name: values_A.cpu().split(lengths) for name, values_A in named.items()}
        for place, index in enumerate(batch.rows):
            own = {name: part[place].tolist() for name, part in parts.items()}
            done[index] = replace(done[index], fields={**done[index].fields, **own})
    return done
