"""The types that flow through the house. Nothing here imports torch: reward workers load this module too.

Shape suffixes, everywhere: P prompts, G completions per prompt, B sequences, T time, V vocabulary, D width,
N packed positions of a batch, A the *actions* among them (the tokens that the policy itself wrote and learns from).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "test"]
FinishReason = Literal["stop", "length"]
Unit = Literal["tokens", "sequences", "prompts", "shown"]  # shown: tokens that somebody else wrote


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked. Exactly one of `messages` (a conversation) and `text` (a plain beginning) is set."""

    id: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    answer: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    part: str | None = None  # of a mixture: the environment that it comes from
    most: int | None = None  # tokens of an answer, where that is less than the sampling's max_new_tokens

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.text is not None):
            raise ValueError(f"prompt {self.id!r}: give either messages or text")


@dataclass(slots=True)
class Sample:
    """One completion of a prompt, from the sampler to the loss. Token ids are carried; text is never re-encoded.

    `logprobs[i]` is the sampler's log-probability of `tokens[i]` under the distribution it sampled from.
    `reward` is None until scored, and stays None where scoring failed: `failure` then says why. `token_rewards` is the
    part of it that components tell of single tokens, weighted; empty where none does.
    """

    prompt_id: str
    index: int
    tokens: list[int]
    logprobs: list[float]
    text: str
    finish: FinishReason
    version: int
    expert: bool = False  # a demonstration that was put into the group; the policy did not write it
    episode: int | None = None  # in self-play: the game that it was a move of, by its number in the stage
    rewards: dict[str, float] = field(default_factory=dict[str, float])
    token_rewards: list[float] = field(default_factory=list[float])
    reward: float | None = None
    failure: str | None = None


@dataclass(slots=True)
class Group:
    """The G samples of one prompt, with the prompt's tokens as the sampler saw them."""

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    samples: list[Sample]
    role: str | None = None  # in self-play: whose part they are


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of packed positions that attends to itself, causally, and to the whole of its context."""

    start: int
    length: int
    context_start: int = 0
    context_length: int = 0  # 0: it stands alone


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences packed end to end without padding. The prompt that a group shares stands in it once.

    | Field | Shape | Meaning |
    |---|---|---|
    | tokens_N | [N] int64 | token ids |
    | positions_N | [N] int64 | position of each token in its own sequence, as if it stood alone |
    | spans | - | the stretches of N, in order, each with the context it attends to |
    | action_A | [A] int64 | places in N of the tokens to learn from |
    | source_A | [A] int64 | place in N whose hidden state predicts that token |
    | sequence_A | [A] int64 | sequence of each action, 0 .. sequences - 1 |
    | rows | - | which of the packed rows each sequence is |
    | names | - | what each sequence is called, for messages |
    | prompts | - | groups that have a sequence here |
    | shown | - | is it shown to be imitated beside what the policy did? It is counted apart |
    | fields | name: [A] | what else is known of each action: advantages, sampler log-probabilities, ... |
    | skipped_tokens, skipped_sequences | - | left out because they add nothing, but counted in the denominators |
    """

    tokens_N: Tensor
    positions_N: Tensor
    spans: tuple[Span, ...]
    action_A: Tensor
    source_A: Tensor
    sequence_A: Tensor
    rows: tuple[int, ...]
    fields: dict[str, Tensor]
    names: tuple[str, ...] = ()
    prompts: int = 0
    shown: bool = False
    skipped_tokens: int = 0
    skipped_sequences: int = 0

    @property
    def sequences(self) -> int:
        return len(self.rows)

    @property
    def acted(self) -> int:
        """How many actions there are to learn from."""
        return len(self.action_A)


@dataclass(frozen=True, slots=True)
class Transitions:
    """Steps of an environment with plain observations: each is one position, and each position an action.

    | Field | Shape | Meaning |
    |---|---|---|
    | observations_AO | [A, O] | what the policy saw |
    | actions_A | [A] int64 or [A, K] | the choice it made, or the numbers |
    | sequence_A | [A] int64 | which stretch of which episode, 0 .. sequences - 1 |
    | fields | name: [A] | what else is known of each action |
    """

    observations_AO: Tensor
    actions_A: Tensor
    sequence_A: Tensor
    sequences: int
    fields: Mapping[str, Tensor]
    prompts: int = 0
    shown: bool = False
    skipped_tokens: int = 0
    skipped_sequences: int = 0

    @property
    def acted(self) -> int:
        return len(self.actions_A)


@dataclass(frozen=True, slots=True)
class Experience:
    """What a step's sequences did and earned: all that credit may be given on. B = P * G sequences, group by group.

    A sequence is an answer, or a stretch of one episode. An invalid one (its reward failed) has no actions here; groups
    with fewer answers than the largest are filled up with such.

    | Field | Shape | Meaning |
    |---|---|---|
    | rewards_PG | [P, G] | what each sequence earned in all; anything where it is invalid |
    | valid_PG | [P, G] bool | was it rewarded? |
    | truncated_PG | [P, G] bool | was it cut off by a limit, instead of ending by itself? |
    | greedy_P | [P] or None | what the greedy answer to each prompt earned, where the algorithm asked for it |
    | sequence_A | [A] int64 | p * G + g of each action, ascending |
    | rewards_A | [A] | earned right after each action; an answer earns at its last token what no token's own is |
    | process_A | [A] or None | of rewards_A, what components tell of single tokens; None: they tell of answers alone |
    | behaviour_A | [A] | log-probability under the policy that acted |
    | reference_A | [A] or None | log-probability under the frozen anchor |
    | values_A | [A] or None | the critic's value of the state in which each action was taken |
    | after_B | [B] | value of the state after the last action; 0 where the episode ended there |
    | role_P | [P] int64 or None | whose part each group is, in self-play |
    | episode_PG | [P, G] int64 or None | which game each sequence is a move of, in self-play |
    """

    rewards_PG: Tensor
    valid_PG: Tensor
    truncated_PG: Tensor
    sequence_A: Tensor
    rewards_A: Tensor
    behaviour_A: Tensor
    after_B: Tensor
    process_A: Tensor | None = None
    reference_A: Tensor | None = None
    values_A: Tensor | None = None
    greedy_P: Tensor | None = None
    role_P: Tensor | None = None
    episode_PG: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """`role_P` and `episode_PG`; without self-play all play one part, each in an episode of its own."""
        if self.role_P is not None and self.episode_PG is not None:
            return self.role_P, self.episode_PG
        one_B = self.sequence_A.new_ones(self.rewards_PG.numel())
        return self.sequence_A.new_zeros(len(self.rewards_PG)), one_B.cumsum(0).view_as(self.rewards_PG)

    def shared(self, advantages_PG: Tensor) -> Credit:
        """Credit that all actions of a sequence share."""
        return Credit(advantages_PG.flatten()[self.sequence_A])


@dataclass(frozen=True, slots=True)
class Credit:
    """What each action of an experience is worth.

    | Field | Shape | Meaning |
    |---|---|---|
    | advantages_A | [A] | how much better than expected; its sign is the direction in which the policy moves |
    | returns_A | [A] or None | what the critic shall predict |
    """

    advantages_A: Tensor
    returns_A: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Actions:
    """What a loss sees: the policy's own tokens of a packed batch, flat, without prompts or padding.

    | Field | Shape | Meaning |
    |---|---|---|
    | logprobs_A | [A] | log-probability under the policy being trained; carries the gradient |
    | entropy_A | [A] | entropy of the policy's next-action distribution at that place |
    | advantages_A | [A] | credit of the action; 1 for imitation |
    | behaviour_A | [A] | log-probability under the policy that acted; detached |
    | reference_A | [A] or None | log-probability under the frozen anchor, where the algorithm asked for it |
    | sequence_A | [A] int64 | which sequence the action belongs to, 0 .. sequences - 1 |
    | sequences | int | sequences in this (micro-)batch, those without any action included |
    | values_A | [A] or None | the critic's value of the state; carries its gradient |
    | predicted_A | [A] or None | the same when the credit was given; detached |
    | returns_A | [A] or None | what the critic shall predict |
    | rewards_A | [A] or None | what the whole sequence earned |
    | expert_A | [A] bool or None | tokens that an expert wrote, where the algorithm asked for them |
    | kl_A | [A] or None | exact KL(policy || reference) of the next-action distributions, where asked for |
    | dials | name: float | numbers that the algorithm turns between updates, such as an adaptive penalty |
    """

    logprobs_A: Tensor
    entropy_A: Tensor
    advantages_A: Tensor
    behaviour_A: Tensor
    reference_A: Tensor | None
    sequence_A: Tensor
    sequences: int
    values_A: Tensor | None = None
    predicted_A: Tensor | None = None
    returns_A: Tensor | None = None
    rewards_A: Tensor | None = None
    expert_A: Tensor | None = None
    kl_A: Tensor | None = None
    dials: Mapping[str, float] = field(default_factory=dict[str, float])

    def with_values(self, values_A: Tensor) -> Actions:
        """The same, with what the critic says of the states."""
        return replace(self, values_A=values_A)


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss as a sum with its unit: only the update divides, once, by the global count of that unit.

    `metrics` are detached sums over `counted` things, or over the batch's actions; the update makes means of them.
    `terms` are what it was made of, [A] by name, within its graph: where it is not finite, they tell whose fault it is.
    """

    total: Tensor
    unit: Unit
    metrics: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    counted: int | None = None  # None: the batch's actions
    terms: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
