"""A policy small enough to know everything about: vocabulary 3, length 2, every sequence enumerated, in fp64.

S: all sequences. A policy is a table of logits, one row for the empty context and one for each first token. With
`ends=True` token 0 ends a sequence, so their lengths differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tutelage.algorithms import Algorithm
from tutelage.functional.reductions import sequence_sums
from tutelage.types import Actions, Experience

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

    def token_kl(self, policy: States, reference: States, picked: Sequence[int]) -> Tensor:
        """KL(policy || reference) of the next token in the state of each of the picked sequences' tokens."""
        kl_per_state = (policy.softmax(-1) * (policy.log_softmax(-1) - reference.log_softmax(-1))).sum(-1)
        states = [0 if t == 0 else 1 + self.sequences[s][0] for s in picked for t in range(len(self.sequences[s]))]
        return kl_per_state[states]


def random_logits(seed: int) -> States:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1 + VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)


def gradient(scalar: Tensor, logits: States) -> Tensor:
    (grad,) = torch.autograd.grad(scalar, logits, retain_graph=True)
    return grad


def experience_of(
    rewards_B: Tensor,
    sequence_A: Tensor,
    behaviour_A: Tensor,
    reference_A: Tensor | None = None,
    greedy: float | None = None,
) -> Experience:
    """One group of answers, each rewarded at its last token."""
    last_A = torch.ones_like(sequence_A, dtype=torch.bool)
    last_A[:-1] = sequence_A[1:] != sequence_A[:-1]
    return Experience(
        rewards_PG=rewards_B[None],
        valid_PG=torch.ones_like(rewards_B, dtype=torch.bool)[None],
        truncated_PG=torch.zeros_like(rewards_B, dtype=torch.bool)[None],
        sequence_A=sequence_A,
        rewards_A=torch.where(last_A, rewards_B[sequence_A], 0.0),
        behaviour_A=behaviour_A.detach(),
        after_B=torch.zeros_like(rewards_B),
        reference_A=None if reference_A is None else reference_A.detach(),
        greedy_P=None if greedy is None else torch.tensor([greedy], dtype=rewards_B.dtype),
    )


def expected_gradient(
    world: World,
    logits: States,
    group: int,
    algorithm: Algorithm,
    behaviour: States | None = None,
    reference: States | None = None,
    greedy: float | None = None,
) -> Tensor:
    """The expectation of the gradient of loss / sequences over every group of samples of the behaviour, exactly."""
    sampler = logits.detach() if behaviour is None else behaviour
    sampler_S = world.logprobs_S(sampler)
    expected = logits.new_zeros(())
    for picked in itertools.product(range(len(world.sequences)), repeat=group):
        logprobs_A, entropy_A, sequence_A = world.actions_of(logits, picked)
        behaviour_A = world.actions_of(sampler, picked)[0]
        reference_A = None if reference is None else world.actions_of(reference, picked)[0]
        experience = experience_of(world.rewards_S[list(picked)], sequence_A, behaviour_A, reference_A, greedy)
        actions = Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=algorithm.credit(algorithm.penalised(experience)).advantages_A,
            behaviour_A=behaviour_A,
            reference_A=reference_A,
            sequence_A=sequence_A,
            sequences=group,
            kl_A=None if reference is None else world.token_kl(logits, reference, picked),
        )
        probability = sampler_S[list(picked)].sum().exp()
        expected = expected + probability * algorithm.loss(actions).total / group
    return gradient(expected, logits)
