"""What is written in C++ because Python or plain torch would be several times slower. Optional, everywhere."""

from tutelage.kernels.build import find_compiler, kernels_ready
from tutelage.kernels.sample import sample

__all__ = ["find_compiler", "kernels_ready", "sample"]
