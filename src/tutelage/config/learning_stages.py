"""Stages that leave a model other than they found it. A method's default is its paper's, quoted beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tutelage.config.architecture import Architecture, Tokenizer
from tutelage.config.guards import Guards, RlGuards
from tutelage.config.part import Table
from tutelage.config.settings import (
    Checkpoints,
    Correction,
    Lora,
    Optimizer,
    Pretraining,
    PretrainOptimizer,
    Record,
    Reference,
    Sampling,
    Share,
)
from tutelage.config.stage_base import AnyStage, ModelStage, Seconds, Separator
from tutelage.types import Split

Before = Annotated[float, Field(ge=0.0, lt=1.0)]  # a share of the steps that are done


class PretrainStage(ModelStage):
    """Pre-training: predict the next token of every text. Makes the model itself where no policy is before it."""

    type: Literal["pretrain"]
    source: Table  # of texts
    decay_source: Table | None = None  # of texts to end with, while the rate of "wsd" falls; None: the same
    test: Table | None = None  # held-out texts, whose bits per byte are reported
    evaluate_every: PositiveInt = 100  # steps; and after the last one
    tokenizer: Tokenizer | None = None  # of a model that begins from nothing; None: the default one
    architecture: Architecture | None = None  # of a model that begins from nothing; None: the default one
    context: Annotated[int, Field(ge=2)] = 512  # tokens of a sequence
    tokens_per_step: PositiveInt = 16_384
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None  # None: as many as the epochs give
    tokens_per_microbatch: PositiveInt = 8192
    optimizer: PretrainOptimizer = PretrainOptimizer()
    checkpoints: Checkpoints = Checkpoints(every=100)
    guards: Guards = Guards()

    @model_validator(mode="after")
    def _sizes_go_together(self) -> PretrainStage:
        below = self.tokens_per_step // self.context * self.context
        if self.tokens_per_step != below:
            near = f"{below} or {below + self.context}" if below else f"{self.context}"
            raise ValueError(f"tokens_per_step: no multiple of context = {self.context}; set it to {near}")
        if self.tokens_per_microbatch < self.context:
            raise ValueError(f"tokens_per_microbatch: holds no sequence of context = {self.context} tokens")
        if self.architecture is not None and (self.architecture.context or self.context) < self.context:
            raise ValueError(f"architecture.context: the model shall learn from sequences of {self.context} tokens")
        return self

    @model_validator(mode="after")
    def _the_end_is_known(self) -> PretrainStage:
        if self.decay_source is None:
            return self
        if self.optimizer.schedule != "wsd":
            raise ValueError("decay_source: is for the end of optimizer.schedule = 'wsd'")
        if self.steps is None:
            raise ValueError("decay_source: of several sources there is no epoch; say how many `steps`")
        return self

    @property
    def sequences_per_step(self) -> int:
        return self.tokens_per_step // self.context


class SftStage(ModelStage):
    """Supervised fine-tuning: imitate what a source of conversations shows."""

    type: Literal["sft"]
    source: Table
    test: Table | None = None  # held-out conversations or texts, whose perplexity is reported
    evaluate_every: PositiveInt = 50  # steps; and after the last one
    patience: PositiveInt | None = None  # evaluations without a lower perplexity before it stops, with the best weights
    loss_on: Literal["assistant", "last-assistant", "all"] = "assistant"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # share of the uniform distribution in the target
    neftune: PositiveFloat | None = None  # noise on the embeddings; 5, 10 or 15 in the paper (2310.05914)
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None  # None: as many as the epochs give
    sequences_per_step: PositiveInt = 16
    tokens_per_microbatch: PositiveInt = 4096
    lora: Lora | None = None  # None: all weights are trained
    optimizer: Optimizer = Optimizer(lr=1e-5)
    checkpoints: Checkpoints = Checkpoints()
    guards: Guards = Guards()

    @model_validator(mode="after")
    def _patience_needs_a_test(self) -> SftStage:
        if self.patience is not None and self.test is None:
            raise ValueError("patience: there is nothing to be patient with; name held-out texts as `test`")
        return self


class RewardModelStage(ModelStage):
    """A reward model: learns to score answers as they were judged. Begins with the newest policy; leaves that alone."""

    type: Literal["reward-model"]
    source: Table  # of judged answers
    test: Table | None = None  # held-out ones, to report the agreement with
    loss: Table = Field(default={"type": "bradley-terry"})
    epochs: PositiveInt = 1  # InstructGPT (2203.02155, appendix C.2): 1, more overfit
    steps: PositiveInt | None = None  # None: as many as the epochs give
    prompts_per_step: PositiveInt = 64  # InstructGPT: 64, each with all of its answers
    max_answer_tokens: PositiveInt | None = None  # longer answers are cut, as the sampler's are; None: whole
    normalise: bool = True  # scores of the source to mean 0 and standard deviation 1 in the end; not those of steps
    separator: Separator = "\n"  # what the steps of an answer end with, where steps were judged
    tokens_per_microbatch: PositiveInt = 4096
    lora: Lora | None = None  # None: all weights are trained
    optimizer: Optimizer = Optimizer(lr=9e-6)  # InstructGPT: 9e-6
    head_lr: PositiveFloat = 1e-3  # of the head, which begins at 0 and would hardly move at the body's rate
    checkpoints: Checkpoints = Checkpoints()
    guards: Guards = Guards()


class PreferenceStage(ModelStage):
    """Preference optimisation: DPO and its kin, on answers that were judged. The reference is what it begins with."""

    type: Literal["preference"]
    source: Table  # of judged answers
    test: Table | None = None  # held-out ones, to report the agreement of the implicit rewards with
    loss: Table = Field(default={"type": "dpo"})
    good_above: float | None = None  # for losses of single answers: which are good; None: above 0.5, of scores 0 to 1
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None  # None: as many as the epochs give
    prompts_per_step: PositiveInt = 64  # DPO (2305.18290, appendix B): 64 pairs
    max_answer_tokens: PositiveInt | None = None  # longer answers are cut; None: whole
    tokens_per_microbatch: PositiveInt = 4096
    lora: Lora | None = None  # None: all weights are trained
    optimizer: Optimizer = Optimizer(lr=1e-6)  # DPO: 1e-6
    checkpoints: Checkpoints = Checkpoints()
    guards: Guards = Guards()


class RlStage(ModelStage):
    """Reinforcement learning: sample groups, reward them, credit their tokens, update."""

    type: Literal["rl"]
    environment: str
    split: Split = "train"
    algorithm: Table = Field(default={"type": "grpo"})
    rewards: tuple[Table, ...] = ({"type": "task"},)
    steps: PositiveInt = 100
    prompts_per_step: PositiveInt = 8
    completions_per_prompt: PositiveInt = 8
    epochs: PositiveInt = 1  # passes over the samples of a step
    updates_per_epoch: PositiveInt = 1  # 1: on-policy
    refills: NonNegativeInt = 10  # further rounds of sampling in a step, where the algorithm finds groups uninformative
    band: tuple[float, float] | None = None  # of a group's mean reward; PRIME (2502.01456): 0.2 to 0.8
    lengths: tuple[tuple[Before, PositiveInt], ...] = ()  # from which share of the steps on, so many max_new_tokens
    dynamic_from: NonNegativeInt | None = None  # steps done before groups of equal rewards are replaced; RPT: 500
    replay: NonNegativeInt = 0  # earlier steps whose groups are learned from again beside the new ones
    ratio_to: Literal["learner", "sampler"] = "learner"  # whose log-probabilities are the ratio's denominator
    correction: Correction = Correction()
    reference: Reference = Reference()
    pretraining: Pretraining | None = None  # texts whose likelihood is raised in the same updates
    scale_rewards: bool = False  # divide a step's rewards by their standard deviation
    average: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # of the weights, which the stage then leaves; 0.992
    tokens_per_microbatch: PositiveInt = 4096
    sampling: Sampling = Sampling()
    lora: Lora | None = None  # None: all weights are trained
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()
    guards: RlGuards = RlGuards()
    reward_timeout: Seconds = 10.0  # for one sample
    max_failed_share: Share = 0.25  # of a step's samples; above it the run stops
    quarantine_after: PositiveInt = 3  # times in a row that none of a prompt's answers is rewarded: it is asked no more
    record: Record = Record()

    def sampling_at(self, step: int) -> Sampling:
        """How a step's answers are drawn. A function of its number, so a resumed run draws the same."""
        begun = [tokens for share, tokens in self.lengths if share * self.steps <= step]
        return self.sampling.model_copy(update={"max_new_tokens": begun[-1]}) if begun else self.sampling

    @property
    def longest_sampling(self) -> Sampling:
        """With as many new tokens as any step allows: what must fit."""
        return max((self.sampling_at(step) for step in range(self.steps)), key=lambda one: one.max_new_tokens)

    @model_validator(mode="after")
    def _check_curriculum(self) -> RlStage:
        if self.band is not None and self.band[0] > self.band[1]:
            raise ValueError("band: must be [lowest, highest]")
        if self.band is not None and self.completions_per_prompt < 2:
            raise ValueError("band: one answer measures no success rate; set completions_per_prompt to 2 or more")
        shares = [share for share, _ in self.lengths]
        if shares != sorted(set(shares)):
            raise ValueError("lengths: each begins at a larger share of the steps than the one before")
        if shares[:1] == [0.0] and self.sampling.max_new_tokens != Sampling().max_new_tokens:
            raise ValueError("sampling.max_new_tokens: has no use beside lengths that begin at 0; leave it out")
        return self


class ControlStage(AnyStage):
    """Reinforcement learning of a small network in a gymnasium environment, by the algorithms of language models.

    A step collects either `length` steps of `copies` environments, or, with `episodes`, that many whole episodes from
    each of `copies` beginnings, which are then an algorithm's group.
    """

    type: Literal["control"]
    environment: str
    algorithm: Table = Field(default={"type": "ppo", "discount": 0.99, "critic": {"kind": "model"}})
    steps: PositiveInt = 100
    copies: PositiveInt = 8
    length: PositiveInt = 128
    episodes: PositiveInt | None = None
    epochs: PositiveInt = 10  # passes over a step's transitions; under a trust region, the critic's
    transitions_per_update: PositiveInt | Literal["all"] = 64  # drawn anew in each epoch
    hidden: tuple[PositiveInt, ...] = (64, 64)  # of policy and critic, each; tanh
    normalise_observations: bool = True
    normalise_rewards: bool = False
    optimizer: Optimizer = Optimizer(lr=3e-4, max_grad_norm=0.5)
    checkpoints: Checkpoints = Checkpoints()


class PruneStage(ModelStage):
    """Leaves the policy with fewer layers: a smaller model that begins near the larger one, to be distilled into.

    Layers at even distances, the first and the last among them, as in DistilBERT (Sanh et al., 1910.01108, section 3).
    """

    type: Literal["prune"]
    layers: Annotated[int, Field(ge=2)]  # that are kept
