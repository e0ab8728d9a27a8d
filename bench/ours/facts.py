"""What our programs say of themselves: versions, threads, compute type, and what the model costs per token."""

from __future__ import annotations

from typing import Any

import torch
import transformers

import tutelage
from tutelage.models import Policy


def facts_of(policy: Policy) -> dict[str, Any]:
    """Facts for the driver. The head counts apart from the body: not every token pays for it."""
    head = policy.module.lm_head.weight
    embedding = policy.module.get_input_embeddings().weight
    whole = sum(weight.numel() for weight in policy.module.parameters())
    return {
        "versions": {
            "tutelage": tutelage.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
        "compute": str(policy.compute).removeprefix("torch."),
        "parameters": {"body": whole - embedding.numel() - (0 if head is embedding else head.numel()),
                       "head": head.numel()},
    }  # fmt: skip
