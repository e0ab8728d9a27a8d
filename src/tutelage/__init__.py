"""Tutelage: reinforcement learning of language models over their whole life."""

__version__ = "0.1.0"
