"""Whatever samples."""

from tutelage.engines.base import Completion, Engine, Finished, Request, Watch
from tutelage.engines.build import build_engine, engine_for
from tutelage.engines.lean import FAMILIES
from tutelage.engines.native import NativeEngine
from tutelage.engines.scripted import ScriptedEngine
from tutelage.engines.transformers import TransformersEngine

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
