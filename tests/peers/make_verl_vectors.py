"""Makes verl_0_9.json: inputs, outputs and gradients of verl's own code. Run it in a virtual environment with

    pip install torch transformers && pip install --no-deps verl==0.9.1
    python tests/peers/make_verl_vectors.py

Only two files of verl are executed, as they are: `trainer/ppo/core_algos.py` and `utils/torch_functional.py` (with
`utils/groupwise.py`). What they import for configuration and devices is replaced by empty names, so that verl's own
requirements (Ray, tensordict, ...) need not be there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

LENGTHS = [7, 3, 1, 5, 6, 2]  # ragged; verl has no sequence without any token
GROUP = 3
COV = {"clip_cov_ratio": 1.0, "clip_cov_lb": 0.05, "clip_cov_ub": 0.6, "kl_cov_ratio": 0.25, "ppo_kl_coef": 1.0}


def stand_in(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    return module


class ActorConfig(SimpleNamespace):
    """The settings that a policy loss reads."""

    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)


def load() -> Any:
    """verl.trainer.ppo.core_algos, with stand-ins for what it does not need here."""
    spec = importlib.util.find_spec("verl")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    for package in ("verl", "verl.utils", "verl.trainer", "verl.trainer.ppo", "verl.workers"):
        stand_in(package).__path__ = [str(root.joinpath(*package.split(".")[1:]))]
    stand_in("tensordict", TensorDict=dict)
    stand_in("omegaconf", DictConfig=dict)
    stand_in("verl.utils.device", get_device_name=lambda: "cpu", get_torch_device=lambda: torch)
    stand_in("verl.utils.import_utils", deprecated=lambda *_: lambda function: function)
    stand_in("verl.trainer.config", AlgoConfig=type("AlgoConfig", (), {}))
    stand_in("verl.workers.config", ActorConfig=ActorConfig)
    groupwise = importlib.import_module("verl.utils.groupwise")
    sys.modules["verl.utils"].__dict__.update(
        as_torch_index=groupwise.as_torch_index, group_mean_std=groupwise.group_mean_std
    )
    return importlib.import_module("verl.trainer.ppo.core_algos")


def make_inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return (values * 1e6).round() / 1e6

    rows, time = len(LENGTHS), max(LENGTHS)
    mask = (torch.arange(time) < torch.tensor(LENGTHS)[:, None]).double()
    logprobs = -rand(rows, time).abs() - 0.05
    return {
        "mask": mask,
        "logprobs": logprobs,
        "behaviour": logprobs + rand(rows, time, scale=0.4),
        "reference": logprobs + rand(rows, time, scale=0.4),
        "advantages": rand(rows),  # of sequences
        "advantages_by_token": rand(rows, time),
        "outcomes": torch.tensor([1.0, 0.0, 1.0, 0.3, -0.5, 2.0], dtype=torch.float64),
        "token_rewards": rand(rows, time, scale=0.3) * mask,
        "greedy": rand(2),
        "values": rand(rows, time),
        "predicted": rand(rows, time),
        "returns": rand(rows, time),
    }


def advantages(core: Any, inputs: dict[str, Tensor]) -> dict[str, Any]:
    mask, index = inputs["mask"], np.repeat(["a", "b"], GROUP)
    last = torch.nn.functional.one_hot(torch.tensor(LENGTHS) - 1, mask.shape[1]).double()
    outcome = last * inputs["outcomes"][:, None]
    config = SimpleNamespace(gamma=0.97)
    found: dict[str, Any] = {
        "group_scaled": core.compute_grpo_outcome_advantage(outcome, mask, index)[0],
        "group_centred": core.compute_grpo_outcome_advantage(outcome, mask, index, norm_adv_by_std_in_grpo=False)[0],
        "leave_one_out": core.compute_rloo_outcome_advantage(outcome, mask, index)[0],
        "reinforce_pp": core.compute_reinforce_plus_plus_outcome_advantage(inputs["token_rewards"], mask, config)[0],
        "reinforce_pp_baseline": core.compute_reinforce_plus_plus_baseline_outcome_advantage(outcome, mask, index)[0],
        "opo": core.compute_opo_outcome_advantage(outcome, mask, index)[0],
        "remax": core.compute_remax_outcome_advantage(outcome, inputs["greedy"].repeat_interleave(GROUP), mask)[0]
        * mask,
    }
    rewards, values = inputs["token_rewards"], inputs["values"] * mask
    gae, returns = core.compute_gae_advantage_return(rewards, values, mask, 0.97, 0.9)
    found |= {"gae": gae * mask, "gae_returns": returns * mask}
    return {name: values.tolist() for name, values in found.items()}


def policy_losses(core: Any, inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    mask = inputs["mask"]
    by_sequence = inputs["advantages"][:, None] * mask
    by_token = inputs["advantages_by_token"] * mask
    cases = [
        ("vanilla", "token-mean", by_token, {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 1.5}),
        ("gspo", "seq-mean-token-mean", by_sequence, {"clip_ratio_low": 0.05, "clip_ratio_high": 0.08}),
        ("cispo", "token-mean", by_token, {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}),
        ("geo_mean", "", by_sequence, {"clip_ratio_low": 0.3, "clip_ratio_high": 0.2}),
        ("clip_cov", "token-mean", by_sequence, {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2}),
        ("kl_cov", "token-mean", by_sequence, {}),
    ]
    results = []
    for name, mode, advantages_BT, settings in cases:
        config = ActorConfig(
            **{"clip_ratio": 0.2, "clip_ratio_low": None, "clip_ratio_high": None, **settings},
            policy_loss=SimpleNamespace(**COV),
            global_batch_info={},
        )
        logprobs = inputs["logprobs"].clone().requires_grad_()
        function = core.get_policy_loss_fn(name)
        loss, _ = function(inputs["behaviour"], logprobs, advantages_BT, mask, mode, config)
        loss.backward()
        result = {"name": name, "settings": settings, "loss": loss.item()}
        results.append(result | {"gradient": logprobs.grad.tolist()})
    return results


def main() -> None:
    core, inputs = load(), make_inputs()
    vpreds = inputs["values"].clone().requires_grad_()
    value_loss, _ = core.compute_value_loss(vpreds, inputs["returns"], inputs["predicted"], inputs["mask"], 0.2)
    value_loss.backward()
    kinds = ("k1", "k2", "k3")
    results = {
        "verl": importlib.metadata.version("verl"),
        "torch": torch.__version__,
        "command": "python tests/peers/make_verl_vectors.py, in a virtual environment with verl==0.9.1",
        "group": GROUP,
        "cov": COV,
        "inputs": {name: values.tolist() for name, values in inputs.items()},
        "advantages": advantages(core, inputs),
        "policy_losses": policy_losses(core, inputs),
        "value_loss": {"clip": 0.2, "loss": value_loss.item(), "gradient": vpreds.grad.tolist()},
        "kl": {kind: core.kl_penalty(inputs["logprobs"], inputs["reference"], kind).tolist() for kind in kinds},
    }
    path = Path(__file__).with_name("verl_0_9.json")
    path.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
