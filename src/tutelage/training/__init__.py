"""The loop, the update, and what keeps a run safe."""

from tutelage.training.checkpoint import load_checkpoint
from tutelage.training.fit import Task, fit, mean_of
from tutelage.training.memory import Memory
from tutelage.training.metrics import Metrics
from tutelage.training.progress import Progress, Quiet
from tutelage.training.state import SLOWER, STOP, State, decay_begins, learning_rate
from tutelage.training.trust_region import trust_region_update
from tutelage.training.update import update
from tutelage.training.watch import Logs, Watch, event_in_words

__all__ = [
    "SLOWER",
    "STOP",
    "Logs",
    "Memory",
    "Metrics",
    "Progress",
    "Quiet",
    "State",
    "Task",
    "Watch",
    "decay_begins",
    "event_in_words",
    "fit",
    "learning_rate",
    "load_checkpoint",
    "mean_of",
    "trust_region_update",
    "update",
]
