"""The record of every sample: `samples.jsonl`, one line each, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.data.journal import Journal
from tutelage.types import Group, Prompt


def record_samples(journal: Journal, stage: str, step: int, groups: Sequence[Group]) -> None:
    """Writes every sample of a step (0: an evaluation) with its tokens' count, reward components and failure.

    Of what is learned from, the tokens themselves and the sampler's log-probabilities too, for `tutelage replay`.
    """
    for group in groups:
        asked = question(group.prompt)
        for sample in group.samples:
            journal.append(
                {
                    "stage": stage,
                    "step": step,
                    "prompt_id": sample.prompt_id,
                    "index": sample.index,
                    "prompt": asked,
                    "answer": group.prompt.answer,
                    "text": sample.text,
                    "tokens": len(sample.tokens),
                    "finish": sample.finish,
                    "reward": sample.reward,
                    "rewards": sample.rewards,
                    "failure": sample.failure,
                    "version": sample.version,
                    **({"token_rewards": sample.token_rewards} if sample.token_rewards else {}),
                    **({"expert": True} if sample.expert else {}),
                    **({"ids": sample.tokens, "logprobs": _shortest(sample.logprobs)} if step else {}),
                    **({} if group.role is None else {"role": group.role, "episode": sample.episode}),
                }
            )


def _shortest(logprobs: Sequence[float]) -> list[float]:
    """The shortest decimals that are the same fp32 numbers."""
    return [float(str(value)) for value in np.array(logprobs, dtype=np.float32)]


def question(prompt: Prompt) -> str:
    """A prompt as people read it: the plain text, or the last user turn."""
    if prompt.text is not None:
        return prompt.text
    return next((m.content for m in reversed(prompt.messages) if m.role == "user"), prompt.messages[-1].content)
