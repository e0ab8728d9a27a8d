"""Which engine serves a policy."""

from __future__ import annotations

from tutelage.engines.native import NativeEngine
from tutelage.engines.transformers import TransformersEngine
from tutelage.errors import ConfigError
from tutelage.models import Policy
from tutelage.models.lean import FAMILIES


def engine_for(wish: str, family: str) -> str:
    """The name of the engine for a model family, known before any weight is loaded. Raises ConfigError."""
    if wish == "native" and family not in FAMILIES:
        raise ConfigError(
            f"engine: 'native' decodes {', '.join(sorted(FAMILIES))}; this model is '{family}': "
            'use engine = "transformers" or "auto"'
        )
    if wish == "auto":
        return "native" if family in FAMILIES else "transformers"
    return wish


def build_engine(wish: str, policy: Policy) -> NativeEngine | TransformersEngine:
    """The engine that a recipe's `engine` names, over a policy."""
    name = engine_for(wish, policy.module.config.model_type)
    return NativeEngine(policy) if name == "native" else TransformersEngine(policy)
