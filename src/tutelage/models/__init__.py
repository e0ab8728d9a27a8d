"""Policies: where models come from, loading, the packed forward, saving."""

from tutelage.models.attention import PACKED
from tutelage.models.create import count_parameters, create_model, llama_config
from tutelage.models.fetch import fetch
from tutelage.models.loading import ModelFacts, context_length, describe, load_tokenizer
from tutelage.models.noise import noisy_embeddings
from tutelage.models.policy import Policy, load_policy, pick_compute
from tutelage.models.registry import ResolvedModel, known_models, resolve
from tutelage.models.reward_model import RewardModel, load_reward_model
from tutelage.models.value_model import ValueModel

__all__ = [
    "PACKED",
    "ModelFacts",
    "Policy",
    "ResolvedModel",
    "RewardModel",
    "ValueModel",
    "context_length",
    "count_parameters",
    "create_model",
    "describe",
    "fetch",
    "known_models",
    "llama_config",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "noisy_embeddings",
    "pick_compute",
    "resolve",
]
