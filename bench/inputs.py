"""What both sides are given: texts of an exact number of tokens, made of words that are one token each."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from bench.alternate import ROOT
from bench.settings import Settings

BUILD = ROOT / "build" / "bench"


@lru_cache(maxsize=8)
def model_folder(name: str) -> Path:
    """A model's folder; small random ones are made, known ones fetched where they are missing."""
    command = [sys.executable, "-m", "bench.ours.prepare", name, str(BUILD / "models")]
    return Path(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


class Writer:
    """Writes texts whose tokens can be counted beforehand. The same seed writes the same texts."""

    def __init__(self, model: Path, seed: int = 0) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._random = Random(seed)
        candidates = {self._tokenizer.decode([token]).strip() for token in self._tokenizer.get_vocab().values()}
        plain = sorted(word for word in candidates if word.isascii() and word.isalpha() and word.islower())
        self._words = [word for word in plain if len(word) > 2 and len(self._encode(" " + word)) == 1]

    def text(self, tokens: int) -> str:
        """Random words, together exactly so many tokens."""
        text = "".join(" " + self._random.choice(self._words) for _ in range(tokens))
        assert len(self._encode(text)) == tokens, "two words became one token"
        return text

    def lengths(self, count: int, mean: int, spread: int) -> list[int]:
        """Whole numbers between mean - spread and mean + spread, in random order; their mean is `mean`."""
        half = [self._random.randint(1, spread) for _ in range(count // 2)]
        lengths = [mean + x for x in half] + [mean - x for x in half] + [mean] * (count % 2)
        self._random.shuffle(lengths)
        return lengths

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def prompts(model: Path, count: int, tokens: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` different prompts of exactly `tokens` tokens."""
    writer = Writer(model, seed)
    return [{"id": f"prompt-{i}", "text": writer.text(tokens)} for i in range(count)]


def sums(count: int) -> list[dict[str, Any]]:
    """Questions of our arithmetic environment as conversations, with their answers."""
    from tutelage.environments import Arithmetic

    asked = Arithmetic(operators=("+", "-", "*"), minimum=0, maximum=10, train_questions=count, test_questions=1)
    return [
        {
            "id": prompt.id,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "answer": prompt.answer,
        }
        for prompt in asked.prompts("train")
    ]


def sums_spec(settings: Settings) -> dict[str, Any]:
    """A GRPO program's step on those questions, but for its seed: 64 answers as long as the policy likes."""
    folder = model_folder(settings.model())
    return {
        "model": str(folder),
        "prompts": prompts(folder, 4, 5) if settings.quick else sums(128),
        "prompts_per_step": settings.size(8, 2),
        "completions": settings.size(8, 4),
        "new_tokens": settings.size(16, 6),
        "fixed_length": False,
        "reward": "vowels" if settings.quick else "answer",
        "lr": 2e-5,
        "compute": "auto",
        "tokens_per_microbatch": 4096,
    }


def write_json(path: Path, value: object) -> None:
    """Writes a result as people can read and compare it: one line for each list of numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
