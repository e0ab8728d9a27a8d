"""Makes trl_1_16.json: inputs, outputs and gradients of TRL's own code. Run it in a virtual environment with

    pip install trl==1.16.0 torch
    python tests/peers/make_trl_vectors.py

Losses come from the trainers' `_compute_loss`, called on a stub that holds only the settings it reads.
Advantages stand in the middle of a long method: the lines between two places of it are taken from its source
and executed as they are.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import transformers
import trl
from torch import Tensor
from transformers.loss.loss_utils import ForCausalLMLoss
from trl.trainer import dpo_trainer, utils
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

LENGTHS = [7, 3, 0, 1, 5, 6]  # ragged, one sequence without any action
GROUP, BUDGET = 3, 16
ARGUMENTS = {"delta": None, "steps_per_generation": 1, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}
BIAS_CORRECTED = SimpleNamespace(use_bias_correction_kl=True, **ARGUMENTS)


def stub(logps_BT: Tensor, entropy_BT: Tensor, **settings: Any) -> SimpleNamespace:
    same = lambda x, **_: x  # noqa: E731
    defaults: dict[str, Any] = {
        "_get_per_token_logps_and_entropies": lambda *_, **__: (logps_BT, entropy_BT, None),
        "accelerator": SimpleNamespace(gather=same, gather_for_metrics=same, reduce=same, num_processes=1),
        "args": SimpleNamespace(use_bias_correction_kl=False, **ARGUMENTS),
        "model": SimpleNamespace(training=True),
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "aux_loss_enabled": False,
        "_entropy_bonus_enabled": False,
        "beta": 0.0,
        "current_gradient_accumulation_steps": 1,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "importance_sampling_level": "token",
        "loss_type": "grpo",
        "max_completion_length": BUDGET,
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "use_vllm": False,
    }
    return SimpleNamespace(**(defaults | settings))


def lines_between(function: Any, begin: str, end: str) -> str:
    source = inspect.getsource(function)
    lines = source[source.index(begin) : source.index(end)].splitlines()
    indent = " " * 8
    return textwrap.dedent("\n".join([indent + lines[0].lstrip(), *lines[1:-1]]))


def advantages(trainer: Any, begin: str, rewards_PG: Tensor, **settings: Any) -> list[float]:
    """Executes TRL's own lines. NaN marks a reward that could not be computed."""
    code = lines_between(
        trainer._generate_and_score_completions, begin, "# Slice to keep only the local part of the data"
    )
    rewards = rewards_PG.reshape(-1, 1)
    names: dict[str, Any] = {
        "torch": torch,
        "nanstd": utils.nanstd,
        "rewards_per_func": rewards,
        "unscorable_mask": rewards.isnan().all(dim=1),
        "num_generations": rewards_PG.shape[1],
        "device": "cpu",
        "self": SimpleNamespace(reward_weights=torch.ones(1, dtype=torch.float64), **settings),
    }
    exec(code, names)
    return names["advantages"].tolist()


def make_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return (values * 1e6).round() / 1e6

    rows, time = len(LENGTHS), max(LENGTHS)
    logps = -rand(rows, time).abs() - 0.05
    return {
        "lengths": LENGTHS,
        "logprobs": logps,
        "behaviour": logps + rand(rows, time, scale=0.25),
        "reference": logps + rand(rows, time, scale=0.4),
        "entropy": rand(rows, time).abs(),
        "advantages": rand(rows),
        "rewards": torch.stack([rand(5), torch.tensor([1.0, 0, 1, 1, 0]), torch.full((5,), 0.3), rand(5)]).double(),
        "logits": rand(3, 4, 11, scale=2.0),
        "targets": torch.randint(11, (3, 4), generator=generator),
    }


def losses(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    batch = {
        "prompt_ids": mask,
        "prompt_mask": mask,
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": inputs["advantages"],
        "old_per_token_logps": inputs["behaviour"],
        "ref_per_token_logps": inputs["reference"],
        "old_logps": (inputs["behaviour"] * mask).sum(1),
        "num_items_in_batch": mask.sum(),
    }
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("grpo", GRPOTrainer, {"beta": 0.04}),
        ("grpo", GRPOTrainer, {"beta": 0.0, "epsilon_high": 0.28}),
        ("dr_grpo", GRPOTrainer, {"loss_type": "dr_grpo"}),
        ("dapo", GRPOTrainer, {"loss_type": "dapo", "epsilon_high": 0.28}),
        ("bnpo", GRPOTrainer, {"loss_type": "bnpo"}),
        ("gspo", GRPOTrainer, {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.05}),
        ("rloo", RLOOTrainer, {}),
        ("cispo", GRPOTrainer, {"loss_type": "cispo", "epsilon_high": 1.28}),
        ("sapo", GRPOTrainer, {"loss_type": "sapo"}),
        ("grpo, k3 corrected", GRPOTrainer, {"beta": 0.04, "args": BIAS_CORRECTED}),
    ]
    results = []
    for name, trainer, settings in cases:
        logps = inputs["logprobs"].clone().requires_grad_()
        this = stub(logps, inputs["entropy"], **settings)
        loss = trainer._compute_loss(this, None, batch)
        loss.backward()
        kept = ("kl", "entropy", "clip_ratio/region_mean")
        metrics = {key: value[0] for key, value in this._metrics["train"].items() if key in kept}
        plain = {key: value for key, value in settings.items() if key != "args"}
        result = {"name": name, "settings": plain, "loss": loss.item(), "metrics": metrics}
        results.append(result | {"gradient": logps.grad.tolist()})
    return results


def scores(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    results = []
    for temperature in (1.0, 0.7):
        logits = inputs["logits"].clone().requires_grad_()
        logps = utils.selective_log_softmax(logits, inputs["targets"], temperature=temperature)
        entropy = utils.entropy_from_logits(logits / temperature)
        (grad,) = torch.autograd.grad(logps.sum() + 0.1 * entropy.sum(), logits)
        result = {"temperature": temperature, "logprobs": logps.tolist(), "entropy": entropy.tolist()}
        results.append(result | {"gradient": grad.tolist()})
    return results


def supervised(inputs: dict[str, Any]) -> dict[str, Any]:
    """The loss of SFTTrainer is the model's own: transformers', divided by the tokens of all micro-batches."""
    logits = inputs["logits"].float().requires_grad_()
    labels = inputs["targets"].clone()
    labels[0, 2:] = -100
    loss = ForCausalLMLoss(logits, None, logits.shape[-1], num_items_in_batch=40, shift_labels=labels)
    loss.backward()
    return {"labels": labels.tolist(), "items": 40, "loss": loss.item(), "gradient": logits.grad.tolist()}


class Scripted:
    """Answers a trainer's forward with log-probabilities that are given."""

    training = True

    def __init__(self, logps_BT: Tensor) -> None:
        self.logps_BT = logps_BT

    def __call__(self, **_: Any) -> SimpleNamespace:
        zeros_BT = torch.zeros_like(self.logps_BT)
        return SimpleNamespace(log_probs=self.logps_BT, entropy=zeros_BT, mean_logits=zeros_BT, is_top1=zeros_BT.bool())


def preferences(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The first three sequences as chosen, the last three as rejected."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.zeros(len(LENGTHS), max(LENGTHS) + 1, dtype=torch.int64)
    batch = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "completion_mask": torch.cat((torch.zeros_like(tokens[:, :1]), mask.long()), 1),
    }
    same = lambda x, **_: x  # noqa: E731
    results = []
    for beta in (0.1, 2.0):
        logps = inputs["logprobs"].clone().requires_grad_()
        this = SimpleNamespace(
            accelerator=SimpleNamespace(gather=same, gather_for_metrics=same, device="cpu"),
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
            model=Scripted(logps),
            ref_model=Scripted(inputs["reference"] * mask),
            beta=beta,
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            f_divergence_type="reverse_kl",
            ld_alpha=None,
            aux_loss_enabled=False,
            precompute_ref_logps=False,
            use_weighting=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            _tp_size=1,
        )
        with patch.object(dpo_trainer, "disable_gradient_checkpointing", lambda *_: nullcontext()):
            loss = DPOTrainer._compute_loss(this, Scripted(logps * mask), batch, False)
        loss.backward()
        results.append({"beta": beta, "loss": loss.item(), "gradient": logps.grad.tolist()})
    return results


def main() -> None:
    inputs = make_inputs()
    rewards = inputs["rewards"].clone()
    failed = rewards.clone()
    failed[0, 1], failed[1, 2:], failed[3, 1:] = torch.nan, torch.nan, torch.nan  # one, three and four of five
    grpo = {"multi_objective_aggregation": "sum_then_normalize"}
    rloo = {"reward_clip_range": None, "beta": 0.0, "normalize_advantages": False}
    grpo_lines, rloo_lines = (
        "if self.multi_objective_aggregation ==",
        "# Apply weights to each reward function's output",
    )
    results = {
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "command": "python tests/peers/make_trl_vectors.py, in a virtual environment with trl==1.16.0",
        "inputs": {k: v.tolist() if isinstance(v, Tensor) else v for k, v in inputs.items()},
        "valid": (~failed.isnan()).tolist(),
        "budget": BUDGET,
        "losses": losses(inputs),
        "scores": scores(inputs),
        "supervised": supervised(inputs),
        "preferences": preferences(inputs),
        "advantages": {
            kind: {
                "group_scaled": advantages(GRPOTrainer, grpo_lines, table, scale_rewards="group", **grpo),
                "group_centred": advantages(GRPOTrainer, grpo_lines, table, scale_rewards="none", **grpo),
                "leave_one_out": advantages(RLOOTrainer, rloo_lines, table, **rloo),
            }
            for kind, table in (("all", rewards), ("failed", failed))
        },
    }
    path = Path(__file__).with_name("trl_1_16.json")
    path.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
