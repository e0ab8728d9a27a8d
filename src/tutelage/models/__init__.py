"""Policies: loading, the packed forward, saving."""

from tutelage.models.attention import PACKED
from tutelage.models.policy import Policy, load_policy, pick_compute

__all__ = ["PACKED", "Policy", "load_policy", "pick_compute"]
