"""How TRL's trainers are stepped and what they say of themselves. A step is everything between two `on_step_end`: the
batch, for GRPO its generation and rewards, forward, backward, clipping, the optimizer's step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
import trl
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bench.pace import Pace


class Phases:
    """What happened in the step under way."""

    def __init__(self) -> None:
        self._numbers: dict[str, float] = {}

    def add(self, name: str, value: float) -> None:
        self._numbers[name] = self._numbers.get(name, 0.0) + value

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; its seconds are added to `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **named)
            self.add(name, time.perf_counter() - began)
            return result

        return call

    def take(self) -> dict[str, float]:
        numbers, self._numbers = self._numbers, {}
        return numbers


class Stepping(TrainerCallback):
    """Reports after every optimisation step and waits for the driver's next word."""

    def __init__(self, pace: Pace, phases: Phases) -> None:
        self.pace, self.phases = pace, phases

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if not self.pace.report(**self.phases.take()):
            control.should_training_stop = True
        return control


def arguments_of(spec: dict[str, Any], output: str) -> dict[str, Any]:
    """The settings that all trainers share: the processor, one precision, AdamW at a constant rate, nothing saved."""
    arguments = {
        "output_dir": output,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": spec["precision"] == "autocast",
        "model_init_kwargs": {"dtype": "bfloat16" if spec["precision"] == "bf16" else "float32"},
        "learning_rate": spec["lr"],
        "lr_scheduler_type": "constant",
        "max_steps": 10**6,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": spec["seed"],
    }
    if not spec["gradient_checkpointing"]:  # on by default in TRL
        arguments["gradient_checkpointing"] = False
    return arguments


def train(trainer: Trainer, pace: Pace, phases: Phases) -> None:
    """Trains as long as the driver says so. Each step's loss is told with it."""
    trainer.add_callback(Stepping(pace, phases))
    step = trainer.training_step

    def training_step(*arguments: Any, **named: Any) -> torch.Tensor:
        loss = step(*arguments, **named)
        phases.add("loss", loss.item())
        return loss

    trainer.training_step = training_step
    pace.note(
        versions={"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
        threads=torch.get_num_threads(),
        dtype=str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
        autocast=bool(trainer.args.bf16),
        gradient_checkpointing=bool(trainer.args.gradient_checkpointing),
        optimizer=trainer.args.optim.value,
    )
    if pace.ready():
        trainer.train()
    pace.finish()
