"""The small tables that several stages share. A method's default is its paper's or its field's, quoted beside it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tutelage.config.part import Part, Table

Probability = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _without_secrets(url: str) -> str:
    """A recipe is kept in the run's folder, and shared: what opens a server must not stand in it."""
    if not re.match(r"https?://[^\s/?#@]+(?:/[^?#@\s]*)?$", url):
        raise ValueError(
            "wants http:// or https:// and a server, without a password or a query; what opens it is named by "
            "key_variable, the environment variable that holds it"
        )
    return url


def _a_name(variable: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError("wants the name of an environment variable, not the key itself")
    return variable


ServerUrl = Annotated[str, AfterValidator(_without_secrets)]
"""Of an OpenAI-compatible server, up to and with /v1."""

KeyVariable = Annotated[str, AfterValidator(_a_name)]
"""The environment variable that holds the key: the key itself stands in no recipe and no run folder."""


class Sampling(Part):
    """How completions are drawn. The learner scores tokens under the very same transform of the logits."""

    temperature: NonNegativeFloat = 1.0  # 0: greedy
    top_k: NonNegativeInt = 0  # 0: off
    top_p: Probability = 1.0
    min_p: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_new_tokens: PositiveInt = 256
    stop: tuple[str, ...] = ()  # strings that end a completion; they may cross token borders

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def filtered(self) -> bool:
        """Are some tokens never drawn?"""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    def room(self, most: int | None) -> int:
        """The most tokens of a completion, where something else may allow fewer."""
        return self.max_new_tokens if most is None else min(most, self.max_new_tokens)


class Optimizer(Part):
    """AdamW on fp32 master weights (Loshchilov and Hutter, 2019), with a schedule over the stage's steps.

    `muon`: the hidden layers' matrices by Muon (Jordan et al., 2024), with updates of AdamW's size, so that the same
    rate fits (Moonlight, 2502.16982); embeddings, heads, norms and biases by AdamW still.
    """

    type: Literal["adamw", "muon"] = "adamw"
    lr: PositiveFloat = 1e-6  # DeepSeekMath (2402.03300): 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant"
    decay_share: Probability = 0.1  # of the steps, at the end of "wsd"; MiniCPM (2404.06395): 10 %
    final_lr_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1  # InstructGPT: cosine to 10 %


class PretrainOptimizer(Optimizer):
    """AdamW as models are pre-trained with it; a table that names some keys leaves the others as they are here."""

    lr: PositiveFloat = 3e-3  # SmolLM-135M, as published: 3e-3
    betas: tuple[float, float] = (0.9, 0.95)  # GPT-3 (2005.14165, appendix B), Llama 2 (2307.09288)
    weight_decay: NonNegativeFloat = 0.1  # the same two
    warmup_steps: NonNegativeInt = 100
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "wsd"  # MiniCPM (2404.06395), SmolLM
    decay_share: Probability = 0.2  # SmolLM-135M: 20 %
    final_lr_share: Share = 0.0  # SmolLM-135M: linearly to 0


class Lora(Part):
    """Low-rank adapters (Hu et al., 2106.09685): which matrices, and how far they can be turned."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0  # what is added is alpha / rank times the product
    targets: Literal["all"] | tuple[str, ...] = "all"  # linear layers of the body, or those of these names: q_proj, ...


class Pretraining(Part):
    """PPO-ptx (InstructGPT, 2203.02155, equation 2): the likelihood of other texts beside the objective."""

    source: Table  # of conversations or texts
    weight: PositiveFloat = 27.8  # InstructGPT's gamma: of the mean log-likelihood of a token
    sequences_per_update: PositiveInt = 16  # InstructGPT has 8 for each episode of a minibatch
    loss_on: Literal["assistant", "last-assistant", "all"] = "all"


class Checkpoints(Part):
    """When the state is saved. A run that was killed goes on from the newest one."""

    every: PositiveInt = 10  # steps
    keep: PositiveInt = 2


class Reference(Part):
    """What the anchor is: the policy as the stage found it, which may move after the policy, or another model."""

    every: PositiveInt | None = None  # steps; 400 in DeepSeek-R1-Zero (2501.12948)
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # share of itself that it keeps in a step

    model: str | None = None  # a stage, "base" or one of the recipe's models: a teacher, for `distillation`

    @model_validator(mode="after")
    def _one_way(self) -> Reference:
        if sum(way is not None for way in (self.every, self.ema, self.model)) > 1:
            raise ValueError("give only one of every, ema and model")
        return self

    @property
    def moves(self) -> bool:
        return self.every is not None or self.ema is not None


class Correction(Part):
    """Importance weights learner / sampler on the credit of each token: for samplers that are not quite the learner.

    `full`: unbiased, of high variance; with a clipped ratio to the learner this is decoupled PPO (2110.00641).
    `truncate`: no more than `most` (TIS; Yao et al., 2025). `mask`: 0 outside of least to most.
    """

    kind: Literal["none", "full", "truncate", "mask"] = "none"
    least: NonNegativeFloat = 0.5  # of a weight that is not masked
    most: PositiveFloat = 2.0  # of a weight


class Record(Part):
    """Of how many samples a step's record holds every token's numbers, for the report's inspector."""

    inspect: NonNegativeInt = 8  # the first samples of a step, in the order asked; 0: none
    every: PositiveInt = 10  # steps, from the first one on; and the last one


class TrustRegion(Part):
    """How far an update may go, and how it gets there. The defaults are TRPO's (1502.05477, appendix E)."""

    delta: PositiveFloat = 0.01  # bound of the mean KL(behaviour || policy) of the actions, in nats
    damping: NonNegativeFloat = 0.1  # added to the diagonal of the Fisher matrix
    iterations: PositiveInt = 10  # of conjugate gradients
    curvature_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # of the micro-batches; the paper takes 0.1
    backtracks: PositiveInt = 10  # shorter steps that are tried before the update is refused
    shrink: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8  # of the step, each time
