"""The loop, the update, and what keeps a run safe."""

from tutelage.training.checkpoint import load_checkpoint
from tutelage.training.fit import Task, fit
from tutelage.training.metrics import Metrics
from tutelage.training.progress import Progress, Quiet
from tutelage.training.state import STOP, State, decay_begins, learning_rate
from tutelage.training.trust_region import trust_region_update
from tutelage.training.update import update

__all__ = [
    "STOP",
    "Metrics",
    "Progress",
    "Quiet",
    "State",
    "Task",
    "decay_begins",
    "fit",
    "learning_rate",
    "load_checkpoint",
    "trust_region_update",
    "update",
]
