"""Tiny stages of every kind that trains, each with all that it may keep from one step to the next."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.models.loading import save

STEPS = 7
_COMMON = f"""
steps = {STEPS}
checkpoints = {{ every = 2, keep = 2 }}
"""
_RL = f"""
[[stage]]
name = "learn"
type = "rl"
environment = "few"
rewards = [{{ type = "tests.pipelines.rewards:Digits" }}]
max_failed_share = 1.0
prompts_per_step = 4
completions_per_prompt = 3
tokens_per_microbatch = 160
sampling = {{ max_new_tokens = 5 }}
optimizer = {{ lr = 1e-2 }}
{_COMMON}"""
_MADE = "tokenizer = { vocabulary = 300 }\narchitecture = { width = 32, layers = 2, heads = 2, context = 48 }"
_LEARN = '\n[[stage]]\nname = "learn"\n'
SCENARIOS: dict[str, str] = {
    "pretrain": _LEARN
    + f"""type = "pretrain"
source = {{ type = "jsonl", path = "FOLDER/texts.jsonl" }}
test = {{ type = "jsonl", path = "FOLDER/texts.jsonl" }}
{_MADE}
context = 24
tokens_per_step = 96
tokens_per_microbatch = 50
evaluate_every = 3
optimizer = {{ warmup_steps = 2, lr = 1e-2 }}
{_COMMON}""",
    "sft": _LEARN
    + f"""type = "sft"
source = {{ type = "environment", environment = "few" }}
test = {{ type = "environment", environment = "few" }}
evaluate_every = 1
patience = 2
neftune = 5.0
sequences_per_step = 3
tokens_per_microbatch = 100
optimizer = {{ lr = 1e-1, schedule = "cosine", warmup_steps = 2 }}
{_COMMON}""",
    "reward-model": _LEARN
    + f"""type = "reward-model"
keep = true
source = {{ type = "jsonl", path = "FOLDER/pairs.jsonl" }}
prompts_per_step = 3
tokens_per_microbatch = 60
optimizer = {{ lr = 1e-3 }}
{_COMMON}""",
    "preference": _LEARN
    + f"""type = "preference"
source = {{ type = "jsonl", path = "FOLDER/pairs.jsonl" }}
loss = {{ type = "bco" }}
prompts_per_step = 3
tokens_per_microbatch = 60
optimizer = {{ lr = 1e-3 }}
{_COMMON}""",
    "grpo": _RL
    + """
algorithm = { type = "grpo", kl = 0.05 }
reference = { ema = 0.9 }
replay = 1
correction = { kind = "truncate" }
quarantine_after = 2
epochs = 2
updates_per_epoch = 2
""",
    "ppo": _RL
    + """
algorithm = { type = "ppo", kl = 0.02, penalty = 1.0, penalty_target = 0.003, critic = { kind = "model", lr = 1e-2 } }
average = 0.5
epochs = 2
pretraining = { source = { type = "jsonl", path = "FOLDER/texts.jsonl" }, weight = 0.5, sequences_per_update = 2 }
""",
    "trpo": _RL + '\nalgorithm = { type = "trpo" }\nepochs = 2\n',
    "lora": _RL + '\nalgorithm = { type = "grpo", kl = 0.05 }\nlora = { rank = 2, alpha = 4 }\nupdates_per_epoch = 2\n',
    "distillation": _RL
    + '\nalgorithm = { type = "distillation" }\nreference = { model = "teacher" }\nupdates_per_epoch = 2\n',
    "self-play": f"""
[[stage]]
name = "learn"
type = "rl"
environment = "programs"
algorithm = {{ type = "trr_pp" }}
tokens_per_microbatch = 320
prompts_per_step = 2
completions_per_prompt = 2
updates_per_epoch = 2
sampling = {{ max_new_tokens = 3 }}
optimizer = {{ lr = 1e-2 }}
{_COMMON}""",
    "control": _LEARN
    + f"""type = "control"
environment = "cart"
algorithm = {{ type = "ppo", discount = 0.99, critic = {{ kind = "model" }} }}
copies = 3
length = 11
epochs = 2
transitions_per_update = 16
hidden = [8]
normalise_rewards = true
{_COMMON}""",
    "control-episodes": _LEARN
    + f"""type = "control"
environment = "cart"
algorithm = {{ type = "grpo", kl = 0.0 }}
copies = 2
episodes = 2
epochs = 2
hidden = [8]
{_COMMON}""",
}


def write(folder: Path, stages: str) -> Path:
    """A recipe of these stages, with all that they may name."""
    model = tiny_model_folder(folder / "tiny", max_position_embeddings=1024, num_hidden_layers=3)
    if not (folder / "teacher").exists():
        torch.manual_seed(99)
        teacher = tiny_model()
        with torch.no_grad():
            teacher.lm_head.weight.mul_(3.0)
        save(teacher, tiny_tokenizer(), folder / "teacher")
    texts = [{"text": f"The answer is {n % 8}. The answer is not {n % 7}, while {n} is."} for n in range(9)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    pairs = [{"question": f"{n}?", "chosen": f"{n}, I say", "rejected": f"not {n}"} for n in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    more = f"""
models = {{ teacher = "{folder}/teacher" }}
[environments.few]
type = "arithmetic"
maximum = 9
train_questions = 8
test_questions = 4
[environments.programs]
type = "tests.stages.parity:ShortPrograms"
characters = 10
references = 2
train_questions = 20
test_questions = 10
[environments.cart]
type = "gymnasium"
id = "CartPole-v1"
"""
    text = recipe_text(model, stages.replace("FOLDER", str(folder)), more)
    if '"teacher"' not in stages:
        text = text.replace(f'models = {{ teacher = "{folder}/teacher" }}\n', "")
    if 'type = "pretrain"' in stages and "architecture" in stages:
        text = text.replace(f'model = "{model}"\n', "")
    path = folder / "recipe.toml"
    path.write_text(text)
    return path
