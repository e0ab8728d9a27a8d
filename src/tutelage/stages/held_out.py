"""Held-out texts: how many bits a model needs for a byte of them, and how often its first guess is the next token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tutelage.config import PerplexityStage, PretrainStage
from tutelage.data.corpus import tokenise
from tutelage.data.packing import pack
from tutelage.evaluation import summarise_ratio
from tutelage.models import Policy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HeldOut:
    """The texts, packed. D texts; a text longer than the stage's context is scored in pieces of that length."""

    def __init__(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, stage: PretrainStage | PerplexityStage
    ) -> None:
        corpus = tokenise(tokenizer, texts)
        rows = [row for text in range(len(texts)) for row in corpus.text_rows(text, stage.context)]
        self.batches = pack(rows, stage.tokens_per_microbatch)
        self.text_R = torch.tensor([row.group for row in rows])
        self.bytes_D = np.array([len(text.encode()) for text in texts], dtype=np.float64)

    def metrics(self, policy: Policy) -> dict[str, float]:
        """Over all texts together: bits for each byte, and the share of tokens guessed."""
        bits_D, right_D, tokens_D = self._score(policy)
        bits_per_byte = float(bits_D.sum() / self.bytes_D.sum())
        return {"bits_per_byte": bits_per_byte, "next_token_accuracy": float(right_D.sum() / tokens_D.sum())}

    def report(self, policy: Policy) -> dict[str, dict[str, Any]]:
        """The same with 95 % intervals over texts, for a stage's result."""
        bits_D, right_D, tokens_D = self._score(policy)
        return {
            "bits_per_byte": summarise_ratio(bits_D, self.bytes_D).numbers,
            "next_token_accuracy": summarise_ratio(right_D, tokens_D).numbers,
        }

    def measured(self, policy: Policy) -> dict[str, Any]:
        """The same, the perplexity of a token, and each text's bits and bytes, by which models are compared."""
        bits_D, right_D, tokens_D = self._score(policy)
        bits = summarise_ratio(bits_D, tokens_D)
        ends = {"mean": bits.mean, "low": bits.low, "high": bits.high}
        return {
            "bits_per_byte": summarise_ratio(bits_D, self.bytes_D).numbers,
            "perplexity": {**{name: None if end is None else 2.0**end for name, end in ends.items()}, "n": bits.n},
            "next_token_accuracy": summarise_ratio(right_D, tokens_D).numbers,
            "by_text": {"bits": bits_D.tolist(), "bytes": self.bytes_D.tolist()},
        }

    @torch.no_grad()
    def _score(self, policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[D] of each text: bits of its tokens, its end among them; tokens guessed; tokens."""
        sums_3D = torch.zeros(3, len(self.bytes_D), dtype=torch.float64)
        for batch in self.batches:
            states_AD = policy.states(batch)
            logprobs_A, _ = policy.score_states(states_AD, batch)
            right_A = policy.guessed(states_AD, batch)
            found_3A = torch.stack([-logprobs_A / math.log(2), right_A.float(), torch.ones_like(logprobs_A)])
            text_A = self.text_R[list(batch.rows)][batch.sequence_A]
            sums_3D.index_add_(1, text_A, found_3A.double().cpu())
        bits_D, right_D, tokens_D = sums_3D.numpy()
        return bits_D, right_D, tokens_D
