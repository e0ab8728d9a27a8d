"""A small corpus and the stages that read it, for the tests of reinforcement in pre-training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_tokenizer
from tutelage.algorithms import Rlp
from tutelage.data.chat import encode_plain
from tutelage.data.positions import Position, write_positions
from tutelage.types import Credit, Experience


class WrongSign(Rlp):
    """RLP that climbs down."""

    type: Literal["tests.stages.corpora:WrongSign"] = "tests.stages.corpora:WrongSign"  # type: ignore[assignment]

    def credit(self, experience: Experience) -> Credit:
        return Credit(-super().credit(experience).advantages_A)


TEXTS = [f"The answer is {i}. What is {i} + {i}? The answer is {2 * i}, not {2 * i + 1}. 日本 {i}!" for i in range(30)]

POSITIONS = """
[[stage]]
name = "look"
type = "positions"
source = { type = "jsonl", path = "TEXTS" }
positions = 24
test_positions = 12
min_context = 4
horizon = 3
context = 24
"""
PLAIN = """
[[stage]]
name = "at-once"
type = "predict"
environment = "words"
"""
RLP = """
[[stage]]
name = "think"
type = "rl"
environment = "words"
algorithm = { type = "rlp" }
rewards = [{ type = "information-gain" }]
reference = { ema = 0.9 }
steps = 4
prompts_per_step = 4
completions_per_prompt = 4
sampling = { max_new_tokens = 5, stop = ["</think>"] }
optimizer = { lr = 1e-2 }
checkpoints = { every = 2, keep = 2 }
"""
AFTER = """
[[stage]]
name = "after-thoughts"
type = "predict"
environment = "words"
thought = { samples = 2, sampling = { max_new_tokens = 5 } }
"""


def write(folder: Path, stages: str, words: str = 'stage = "look"\nplain = true', top: str = "") -> Path:
    """A recipe whose environment `words` asks about the corpus."""
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "corpus"\nmodel = "{tiny_model_folder(folder / "tiny")}"\ncompute = "fp32"\n{top}\n'
        f'[environments.words]\ntype = "corpus"\n{words}\n' + stages.replace("TEXTS", str(folder / "texts.jsonl"))
    )
    return path


# A corpus in which a thought can help. A model that learns these texts thinks one of three letters at random, and then
# writes the letter that it thought: so it can learn which to think where the text goes on with a certain one.
ECHOES = [f"{letter}:{thought}.{thought}" for letter in "ZXVKJQ" for thought in "abc"]
LEARN_TO_ECHO = """
[[stage]]
name = "echo"
type = "sft"
source = { type = "jsonl", path = "TEXTS" }
loss_on = "all"
steps = 100
sequences_per_step = 18
optimizer = { lr = 1e-2 }
checkpoints = { every = 1000, keep = 1 }
"""
THINK = """
[[stage]]
name = "before"
type = "predict"
environment = "words"
split = "train"
thought = { samples = 8, closing = ".", sampling = { max_new_tokens = 1 } }

[[stage]]
name = "think"
type = "rl"
environment = "words"
algorithm = { type = "rlp" }
rewards = [{ type = "information-gain", closing = "." }]
reference = { ema = 0.9 }
steps = 12
prompts_per_step = 6
completions_per_prompt = 8
sampling = { max_new_tokens = 1 }
optimizer = { lr = 3e-3 }
checkpoints = { every = 1000, keep = 1 }

[[stage]]
name = "after"
type = "predict"
environment = "words"
split = "train"
thought = { samples = 8, closing = ".", sampling = { max_new_tokens = 1 } }
"""


def write_echoes(path: Path) -> None:
    """Each letter goes on with one of the three: a position each."""
    tokenizer = tiny_tokenizer()
    write_positions(
        path,
        [
            Position(
                id=f"train/{letter}",
                split="train",
                prompt=letter,
                answer="abc"[number % 3],
                ends=(1,),
                tokens=tuple(encode_plain(tokenizer, "abc"[number % 3])),
                context_tokens=tuple(encode_plain(tokenizer, letter)),
                entropy=number / 4,
            )
            for number, letter in enumerate("ZXVKJQ")
        ],
    )
