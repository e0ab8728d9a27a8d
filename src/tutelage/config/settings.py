"""The small tables that several stages share. A method's default is its paper's or its field's, quoted beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tutelage.config.part import Part

Probability = Annotated[float, Field(gt=0.0, le=1.0)]


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


class Optimizer(Part):
    """AdamW on fp32 master weights (Loshchilov and Hutter, 2019), with a schedule over the stage's steps."""

    lr: PositiveFloat = 1e-6  # DeepSeekMath (2402.03300): 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1  # InstructGPT: cosine to 10 %


class Checkpoints(Part):
    """When the state is saved. A run that was killed goes on from the newest one."""

    every: PositiveInt = 10  # steps
    keep: PositiveInt = 2
