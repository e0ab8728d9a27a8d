"""Parts of whole runs in the tests: recipes, a tiny model, and an algorithm with the wrong sign."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import Reinforce
from tutelage.models.loading import save
from tutelage.types import Credit, Experience


class WrongSign(Reinforce):
    """REINFORCE that climbs down: it must make things worse, or the test of learning proves nothing."""

    type: Literal["tests.pipelines.parts:WrongSign"] = "tests.pipelines.parts:WrongSign"  # type: ignore[assignment]

    def credit(self, experience: Experience) -> Credit:
        return Credit(-super().credit(experience).advantages_A)


def tiny_model_folder(folder: Path, **changes: int) -> Path:
    """A tiny random model with its tokenizer, as a transformers folder."""
    if not (folder / "config.json").exists():
        save(tiny_model(**changes), tiny_tokenizer(), folder)
    return folder


def recipe_text(model: Path, stages: str, top: str = "") -> str:
    return f"""
name = "test"
model = "{model}"
seed = 3
compute = "fp32"
{top}
[environments.sums]
type = "arithmetic"
maximum = 9
train_questions = 40
test_questions = 20
{stages}
"""


SFT = """
[[stage]]
name = "imitate"
type = "sft"
source = { type = "environment", environment = "sums" }
steps = 9
sequences_per_step = 7
tokens_per_microbatch = 160
optimizer = { lr = 1e-3, schedule = "cosine", warmup_steps = 2 }
checkpoints = { every = 2, keep = 2 }
"""

RL = """
[[stage]]
name = "reinforce"
type = "rl"
environment = "sums"
algorithm = { type = "grpo", kl = 0.02 }
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }]
steps = 9
prompts_per_step = 6
completions_per_prompt = 4
epochs = 2
updates_per_epoch = 2
tokens_per_microbatch = 200
sampling = { max_new_tokens = 6 }
optimizer = { lr = 1e-3 }
checkpoints = { every = 2, keep = 2 }
"""

EVALUATE = """
[[stage]]
name = "judge"
type = "evaluate"
environment = "sums"
samples = 2
sampling = { temperature = 1.0, max_new_tokens = 6 }
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }]
"""
