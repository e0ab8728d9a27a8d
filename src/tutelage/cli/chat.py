"""`tutelage chat`: a conversation on the terminal, through the same engine that training samples with."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from tutelage.config import Sampling
from tutelage.engines import build_engine
from tutelage.models import fetch, load_policy, pick_compute, resolve
from tutelage.rollouts import roll_out
from tutelage.seeds import derive_seed
from tutelage.types import Message, Prompt


def hold_conversation(
    console: Console,
    model: str,
    prompt: str | None,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> None:
    """Asks and answers until an empty line, or once if there is a prompt."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = load_policy(_folder(model, console), pick_compute("auto", device), device)
    engine = build_engine("auto", policy)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    messages = [Message("system", system)] if system else []
    while True:
        asked = prompt if prompt is not None else console.input("[bold]you[/]: ")
        if not asked.strip():
            return
        messages.append(Message("user", asked))
        turn = Prompt(id=f"turn-{len(messages)}", messages=tuple(messages))
        (group,) = roll_out(engine, policy.tokenizer, [turn], 1, sampling, derive_seed(seed, "chat"))
        answer = group.samples[0].text
        console.print(answer if prompt is not None else f"model: {answer}", markup=False, highlight=False)
        if prompt is not None:
            return
        messages.append(Message("assistant", answer))


def _folder(model: str, console: Console) -> Path:
    run_model = Path(model) / "model"  # a run's folder
    if (run_model / "config.json").is_file():
        return run_model
    return resolve(model).folder or fetch(model, console.print)
