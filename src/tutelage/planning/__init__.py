"""The plan before the run: how much memory and how much time each stage will take."""

from tutelage.planning.accelerators import ACCELERATORS
from tutelage.planning.forecast import Forecast, Unplanned, forecast

__all__ = ["ACCELERATORS", "Forecast", "Unplanned", "forecast"]
