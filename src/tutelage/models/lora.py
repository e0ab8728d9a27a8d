"""LoRA as a way to hold the weights: W = W0 + scale * B A, of which only A and B are trained.

Hu et al., 2021 (2106.09685). The forward never sees A and B: the module holds the sum, rounded to the compute type, as
it does for full fine-tuning. So kernels, sampler and packing are the same, and there is nothing to merge. An update
puts the sum together anew; the gradient of A and B follows from that of W by the chain rule, matrix by matrix, while
the backward pass is under way, so that those of two matrices are never held at once. Against a forward through A and B
it costs the product for the gradient of W; it spares the masters' moments and gradients, as that does. Left out:
dropout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from tutelage.config import Lora
from tutelage.errors import ModelError

_A, _B = ".lora_A.weight", ".lora_B.weight"


class Adapter:
    """The adapted matrices of a module: what they were, and the factors of what is added."""

    def __init__(self, module: PreTrainedModel, originals: Mapping[str, Tensor], settings: Lora, seed: int) -> None:
        """Freezes the module's own weights. A begins uniform, as in the authors' code, and B at 0.

        Args:
            originals: the weights as they were loaded, in fp32. What the module's own type holds exactly is not kept
                twice.
        """
        self.settings = settings
        self.scale = settings.alpha / settings.rank
        self.targets = _targets(module, settings)
        module.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        own = dict(module.named_parameters())
        self.base = {name: _least(originals[name], own[name].detach().clone()) for name in self.targets}
        self.rest = {  # what is frozen, and rounded in the module
            name: original.detach().clone()
            for name, original in originals.items()
            if name not in self.targets and not own[name].detach().to(original).equal(original)
        }
        self.factors: dict[str, Tensor] = {}
        for name, weight in self.targets.items():
            bound = 1.0 / math.sqrt(weight.shape[1])  # kaiming_uniform with a = sqrt(5)
            a_RD = torch.rand(settings.rank, weight.shape[1], generator=generator).mul_(2.0).sub_(1.0).mul_(bound)
            self.factors[name + _A] = nn.Parameter(a_RD.to(weight.device))
            self.factors[name + _B] = nn.Parameter(torch.zeros(weight.shape[0], settings.rank, device=weight.device))
            weight.requires_grad_(True)
            weight.register_post_accumulate_grad_hook(self._collector(name))

    def _collector(self, name: str) -> Any:
        a_RD, b_ER = self.factors[name + _A], self.factors[name + _B]

        def collect(weight: Tensor) -> None:
            if weight.grad is None:
                return
            grad_ED, weight.grad = weight.grad.float(), None
            for factor, grad in ((a_RD, b_ER.detach().T @ grad_ED), (b_ER, grad_ED @ a_RD.detach().T)):
                grad.mul_(self.scale)
                factor.grad = grad if factor.grad is None else factor.grad.add_(grad)

        return collect

    @torch.no_grad()
    def summed(self, name: str) -> Tensor:
        """W0 + scale * B A, in fp32."""
        return torch.addmm(self.base[name].float(), self.factors[name + _B], self.factors[name + _A], alpha=self.scale)

    @torch.no_grad()
    def publish(self) -> None:
        """Puts the sums into the module."""
        for name, weight in self.targets.items():
            weight.copy_(self.summed(name))

    @torch.no_grad()
    def withdraw(self) -> None:
        """Puts W0 into the module, as it was before there were factors; `publish` puts the sums back."""
        for name, weight in self.targets.items():
            weight.copy_(self.base[name])

    def merged(self, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All weights in fp32, to be saved: the sums, what is frozen, and what else is trained beside the factors."""
        beside = {name: master for name, master in masters.items() if name not in self.factors}
        return {**self.rest, **beside, **{name: self.summed(name) for name in self.targets}}

    def save(self, folder: Path, base_model: str) -> None:
        """Writes the factors as peft reads them: adapter_config.json and adapter_model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {name.removesuffix(".weight") for name in self.targets}
        about = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": self.settings.rank,
            "lora_alpha": self.settings.alpha,
            "target_modules": sorted({name.rpartition(".")[2] for name in names}),
            "bias": "none",
            "lora_dropout": 0.0,
        }
        (folder / "adapter_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        renamed = {
            f"base_model.model.{name.replace('.weight.lora', '.lora')}": factor.detach().contiguous()
            for name, factor in self.factors.items()
        }
        save_file(renamed, folder / "adapter_model.safetensors", {"format": "pt"})


def _targets(module: PreTrainedModel, settings: Lora) -> dict[str, Tensor]:
    """The weights of the linear layers of the body that are adapted, by name."""
    linear = {
        f"{name}.weight": layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not name.endswith(("lm_head", "score"))
    }
    if settings.targets == "all":
        return linear
    chosen = {name: weight for name, weight in linear.items() if name.split(".")[-2] in settings.targets}
    unknown = set(settings.targets) - {name.split(".")[-2] for name in linear}
    if unknown:
        known = sorted({name.split(".")[-2] for name in linear})
        raise ModelError(f"lora.targets: this model has no layer {sorted(unknown)}; it has {known}")
    return chosen


def _least(original: Tensor, rounded: Tensor) -> Tensor:
    """The rounded weight where nothing is lost by it, else the original."""
    original = original.detach()
    return rounded if rounded.to(original).equal(original) else original.clone()
