"""Whatever samples."""

from tutelage.engines.base import Completion, Engine, Finished, Request, Watch
from tutelage.engines.build import build_engine, engine_for
from tutelage.engines.native import NativeEngine
from tutelage.engines.scripted import ScriptedEngine
from tutelage.engines.transformers import TransformersEngine
from tutelage.models.lean import FAMILIES

__all__ = [
    "FAMILIES",
    "Completion",
    "Engine",
    "Finished",
    "NativeEngine",
    "Request",
    "ScriptedEngine",
    "TransformersEngine",
    "Watch",
    "build_engine",
    "engine_for",
]
