"""Makes trl_1_16_preferences.json: losses of preferences and their gradients by TRL's own code. Run it with

    pip install trl==1.16.0 torch
    python tests/peers/make_trl_preference_vectors.py

Losses come from the trainers' own methods, called on a stub that holds only the settings they read. The model is one
whose tokens share an answer's log-probability equally, so that a gradient is of the answer's sum.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import trl
from make_trl_vectors import Scripted
from torch import Tensor
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer import dpo_trainer, kto_trainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

LENGTHS = [7, 3, 2, 1, 5, 6, 4, 4, 1, 2]  # of five chosen answers, then of the five rejected
GOOD = [True, False, True, True, False, True, False, False, True, False]
PAIRS = len(LENGTHS) // 2


def same(x: Any, **_: Any) -> Any:
    return x


ACCELERATOR = SimpleNamespace(gather=same, gather_for_metrics=same, device="cpu")


def make_inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)

    def rand(scale: float) -> Tensor:
        values = torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64) * scale
        return (values * 1e4).round() / 1e4

    lengths = torch.tensor(LENGTHS)
    logprobs = -(rand(1.0).abs() + 0.3) * lengths
    return {
        "lengths": lengths,
        "logprobs": logprobs,
        "reference": logprobs + rand(1.5),
        "mismatched": rand(2.0).abs(),
        "good": torch.tensor(GOOD),
    }


def tokens_of(sums_B: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, T] that add up to the sums, and their mask."""
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(max(LENGTHS)) < lengths[:, None]
    return (sums_B / lengths)[:, None] * mask, mask


def batch_of(mask: Tensor) -> dict[str, Tensor]:
    tokens = torch.zeros(len(LENGTHS), max(LENGTHS) + 1, dtype=torch.int64)
    completion_mask = torch.cat((torch.zeros_like(tokens[:, :1]), mask.long()), 1)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "completion_mask": completion_mask}


def stub(policy: Scripted, reference: Scripted, **settings: Any) -> SimpleNamespace:
    defaults: dict[str, Any] = {
        "accelerator": ACCELERATOR,
        "model": policy,
        "ref_model": reference,
        "beta": 0.1,
        "loss_weights": [1.0],
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "label_smoothing": 0.0,
        "ld_alpha": None,
        "aux_loss_enabled": False,
        "precompute_ref_logps": False,
        "use_weighting": False,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
    }
    return SimpleNamespace(**(defaults | settings))


def kept(metrics: dict[str, list[float]]) -> dict[str, float]:
    names = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    return {name: values[0] for name, values in metrics.items() if name in names}


def dpo_losses(inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("sigmoid", {}),
        ("sigmoid", {"beta": 2.0}),
        ("sigmoid", {"f_divergence_type": "forward_kl"}),
        ("sigmoid", {"f_divergence_type": "js_divergence"}),
        ("sigmoid", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7}),
        ("sigmoid_norm", {"beta": 5.0}),
        ("hinge", {"beta": 0.5}),
        ("ipo", {}),
        ("exo_pair", {"label_smoothing": 1e-3}),
        ("nca_pair", {"beta": 0.01}),
        ("robust", {"label_smoothing": 0.1, "beta": 0.01}),
        ("bco_pair", {}),
        ("sppo_hard", {"beta": 0.5}),
        ("aot", {}),
        ("aot_unpaired", {}),
        ("apo_zero", {}),
        ("apo_down", {}),
        ("discopop", {"beta": 0.05}),
        ("sft", {}),
        ("sigmoid, sft", {"loss_weights": [1.0, 0.3]}),
    ]
    results = []
    for name, settings in cases:
        # TRL's alpha divergence knows no fp64.
        dtype = torch.float32 if settings.get("f_divergence_type") == "alpha_divergence" else torch.float64
        sums = inputs["logprobs"].to(dtype).clone().requires_grad_()
        logps, mask = tokens_of(sums)
        reference = Scripted(tokens_of(inputs["reference"].to(dtype))[0])
        this = stub(Scripted(logps), reference, loss_types=name.split(", "), **settings)
        with patch.object(dpo_trainer, "disable_gradient_checkpointing", lambda *_: nullcontext()):
            loss = DPOTrainer._compute_loss(this, Scripted(logps), batch_of(mask), False)
        loss.backward()
        result = {"name": name, "settings": settings, "loss": loss.item(), "gradient": sums.grad.tolist()}
        results.append(result | {"metrics": kept(this._metrics["train"])})
    return results


def kto_losses(inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    cases: list[tuple[str, dict[str, Any], float]] = [
        ("kto", {}, 1.0),
        ("kto", {"beta": 0.5, "desirable_weight": 1.2, "undesirable_weight": 0.7}, 1.0),
        ("kto", {}, -1.0),  # a mean below 0, where the reference point stays at 0
        ("apo_zero_unpaired", {}, 1.0),
    ]
    results = []
    for name, settings, sign in cases:
        sums = inputs["logprobs"].clone().requires_grad_()
        logps, mask = tokens_of(sums)
        policy, reference = Scripted(logps), Scripted(tokens_of(inputs["reference"])[0])
        mismatched = sign * inputs["mismatched"]
        weights = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
        this = stub(policy, reference, loss_type=name, calculate_KL=name == "kto", **(weights | settings))
        this._compute_kl_logps = lambda model, _, policy=policy, kl=mismatched: kl if model is policy else 0.0 * kl
        with patch.object(kto_trainer, "disable_gradient_checkpointing", lambda *_: nullcontext()):
            loss = KTOTrainer._compute_loss(this, policy, batch_of(mask) | {"label": inputs["good"]}, False)
        loss.backward()
        result = {"name": name, "settings": settings, "sign": sign, "loss": loss.item()}
        results.append(result | {"gradient": sums.grad.tolist(), "metrics": kept(this._metrics["train"])})
    return results


def reference_free_losses(inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Their forward is given: log-probabilities, and the mean of each chosen answer's NLL per token."""
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("sigmoid", CPOTrainer, {}),
        ("sigmoid", CPOTrainer, {"label_smoothing": 0.2, "cpo_alpha": 0.0}),
        ("hinge", CPOTrainer, {"cpo_alpha": 0.0}),
        ("simpo", CPOTrainer, {"beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}),
        ("orpo", ORPOTrainer, {"beta": 0.1}),
    ]
    results = []
    for name, trainer, settings in cases:
        sums = inputs["logprobs"].clone().requires_grad_()
        means = sums / inputs["lengths"]
        logps = means if name in ("simpo", "orpo") else sums
        zeros = torch.zeros(())
        forward = (logps[:PAIRS], logps[PAIRS:], zeros, zeros, -means[:PAIRS].mean())
        this = stub(None, None, loss_type=name, alpha=0.0, **({"cpo_alpha": 1.0} | settings))  # type: ignore[arg-type]
        this.concatenated_forward = lambda *_, forward=forward: forward
        for method in ("cpo_loss", "odds_ratio_loss"):
            if hasattr(trainer, method):
                setattr(this, method, getattr(trainer, method).__get__(this))
        loss, metrics = trainer.get_batch_loss_metrics(this, None, {})
        loss.backward()
        result = {"name": name, "settings": settings, "loss": loss.item(), "gradient": sums.grad.tolist()}
        results.append(result | {"metrics": kept({key: [value] for key, value in metrics.items()})})
    return results


def main() -> None:
    inputs = make_inputs()
    results = {
        "trl": trl.__version__,
        "torch": torch.__version__,
        "command": "python tests/peers/make_trl_preference_vectors.py, in a virtual environment with trl==1.16.0",
        "inputs": {name: values.tolist() for name, values in inputs.items()},
        "dpo": dpo_losses(inputs),
        "kto": kto_losses(inputs),
        "reference_free": reference_free_losses(inputs),
    }
    path = Path(__file__).with_name("trl_1_16_preferences.json")
    path.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
