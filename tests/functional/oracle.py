"""A policy small enough to know everything about: vocabulary 3, length 2, every sequence enumerated, in fp64.

S: all sequences. A policy is a table of logits, one row for the empty context and one for each first token. With
`ends=True` token 0 ends a sequence, so their lengths differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tutelage.functional.reductions import sequence_sums
from tutelage.types import Actions, Loss

VOCABULARY, LENGTH = 3, 2
States = Tensor  # [1 + VOCABULARY, VOCABULARY]


@dataclass(frozen=True)
class World:
    """All sequences, with a reward for each."""

    ends: bool = False

    @cached_property
    def sequences(self) -> list[tuple[int, ...]]:
        if not self.ends:
            return list(itertools.product(range(VOCABULARY), repeat=LENGTH))
        going_on = itertools.product(range(1, VOCABULARY), range(VOCABULARY))
        return [(0,), *going_on]

    @cached_property
    def rewards_S(self) -> Tensor:
        generator = torch.Generator().manual_seed(11)
        return torch.randn(len(self.sequences), generator=generator, dtype=torch.float64)

    def actions_of(self, logits: States, picked: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities and entropies of the picked sequences' tokens, flat, and whose they are."""
        table = logits.log_softmax(-1)
        steps = [
            (0 if t == 0 else 1 + self.sequences[s][0], token, i)
            for i, s in enumerate(picked)
            for t, token in enumerate(self.sequences[s])
        ]
        state_A, token_A, sequence_A = torch.tensor(steps).T
        entropy_A = -(table.exp() * table).sum(-1)[state_A]
        return table[state_A, token_A], entropy_A, sequence_A

    def logprobs_S(self, logits: States) -> Tensor:
        """[S] log-probability of every sequence."""
        everything = range(len(self.sequences))
        logprobs_A, _, sequence_A = self.actions_of(logits, everything)
        return sequence_sums(logprobs_A, sequence_A, len(everything))

    def expected_reward(self, logits: States) -> Tensor:
        return (self.logprobs_S(logits).exp() * self.rewards_S).sum()

    def exact_kl(self, policy: States, reference: States) -> Tensor:
        """KL of the sequences' distributions, in nats."""
        policy_S, reference_S = self.logprobs_S(policy), self.logprobs_S(reference)
        return (policy_S.exp() * (policy_S - reference_S)).sum()


def random_logits(seed: int) -> States:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1 + VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)


def gradient(scalar: Tensor, logits: States) -> Tensor:
    (grad,) = torch.autograd.grad(scalar, logits, retain_graph=True)
    return grad


def expected_gradient(
    world: World,
    logits: States,
    group: int,
    credit: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Actions], Loss],
    behaviour: States | None = None,
    reference: States | None = None,
) -> Tensor:
    """The expectation of the gradient of loss / sequences over every group of samples of the behaviour, exactly."""
    sampler = logits.detach() if behaviour is None else behaviour
    sampler_S = world.logprobs_S(sampler)
    expected = logits.new_zeros(())
    for picked in itertools.product(range(len(world.sequences)), repeat=group):
        rewards_PG = world.rewards_S[list(picked)][None]
        advantages_B = credit(rewards_PG, torch.ones_like(rewards_PG, dtype=torch.bool))[0]
        logprobs_A, entropy_A, sequence_A = world.actions_of(logits, picked)
        actions = Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=advantages_B[sequence_A],
            behaviour_A=world.actions_of(sampler, picked)[0],
            reference_A=None if reference is None else world.actions_of(reference, picked)[0],
            sequence_A=sequence_A,
            sequences=group,
        )
        probability = sampler_S[list(picked)].sum().exp()
        expected = expected + probability * loss(actions).total / group
    return gradient(expected, logits)
