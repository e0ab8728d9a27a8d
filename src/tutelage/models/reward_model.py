"""`RewardModel`: one number for a text, by a language model's body with a linear head on its states."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage.config import Lora
from tutelage.models.attention import PACKED
from tutelage.models.loading import load_scorer, load_tokenizer
from tutelage.models.policy import Policy
from tutelage.types import Batch

_SCORE = "score.weight"  # the head's, among a module's weights


class RewardModel:
    """Scores each action of a packed batch by all that stands up to it: an answer at its last token, a step at its end.

    It trains as a policy does: fp32 masters, the body in the compute type; the head stays in fp32. `mean` is taken off
    the scores, and is saved in the config, as a head without bias cannot hold it. Plain transformers opens what is
    saved with `AutoModelForSequenceClassification`, without that shift.

    A process reward model scores an answer's steps, which end with its `separator`, by the log-odds that each is right.
    """

    def __init__(self, body: Policy) -> None:
        self.body = body
        self.mean: float = getattr(body.module.config, "reward_mean", 0.0)
        self.separator: str | None = getattr(body.module.config, "reward_separator", None)  # None: scores whole answers
        with torch.no_grad():
            self._head.float().weight.copy_(self.masters[_SCORE])
        # Plain transformers scores at the last token that is no padding: it must not be the one that ends an answer.
        tokenizer = body.tokenizer
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
            tokenizer.pad_token = _other_special(tokenizer)
        body.module.config.pad_token_id = tokenizer.pad_token_id

    @property
    def _head(self) -> nn.Linear:
        return cast(nn.Linear, self.body.module.score)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.body.tokenizer

    @property
    def compute(self) -> torch.dtype:
        return self.body.compute

    @property
    def masters(self) -> dict[str, Tensor]:
        """What is trained, by name, in fp32."""
        return self.body.masters

    @property
    def version(self) -> int:
        return self.body.version

    @version.setter
    def version(self, version: int) -> None:
        self.body.version = version

    @property
    def head(self) -> str:
        """The head's name among the masters."""
        return _SCORE

    def scores(self, batch: Batch) -> Tensor:
        """[A] in fp32."""
        return self.body.states_after(batch).float() @ self._head.weight[0] - self.mean

    def adapt(self, settings: Lora, seed: int) -> None:
        """From now on trains low-rank factors and the head only."""
        self.body.adapt(settings, seed, (_SCORE,))

    def collect_gradients(self) -> None:
        self.body.collect_gradients()

    def publish(self) -> None:
        self.body.publish()

    @torch.no_grad()
    def rescale(self, mean: float, deviation: float) -> None:
        """Shifts and scales the scores, so that those with this mean and deviation get 0 and 1."""
        self.masters[_SCORE].div_(deviation)
        self.mean = (self.mean + mean) / deviation
        self.publish()

    def taken_apart(self) -> tuple[Policy, Tensor, float]:
        """The body without its head, the head's weights [D] and the mean: what is left of this is of no use."""
        weight_D = self.masters.pop(_SCORE).detach()[0]
        self.body.module.score = nn.Identity()
        return self.body, weight_D, self.mean

    def save(self, folder: Path) -> None:
        """Writes the masters as a folder that plain transformers opens."""
        self.body.module.config.reward_mean = self.mean
        self.body.module.config.reward_separator = self.separator
        self.body.save(folder)


def load_reward_model(folder: Path, compute: torch.dtype, device: torch.device) -> RewardModel:
    """Opens a reward model, or makes one of a language model. Raises ModelError with the remedy."""
    module = load_scorer(folder, torch.float32, PACKED)
    return RewardModel(Policy(module.to(device), load_tokenizer(folder), compute))


def _other_special(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A special token that no text ends with; None where there is none, so that texts can only be scored one by one."""
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    return next((token for token in tokenizer.all_special_tokens if token not in (begin, end)), begin)
