"""Is a value the one that was expected? By type, all the way down: True is not 1, 1 is not 1.0, a list is no tuple."""

from __future__ import annotations

import math
from typing import Any


def same(given: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two values of built-in types are the same. NaN is NaN; -0.0 is 0.0.

    Args:
        tolerance: how far two floats may lie apart, absolutely or as a share of the expected one; 0: not at all.
    """
    try:
        return _same(given, expected, tolerance)
    except RecursionError:
        return False


def _same(given: Any, expected: Any, tolerance: float) -> bool:
    if type(given) is not type(expected):
        return False
    if isinstance(expected, float):
        return _close(given, expected, tolerance)
    if isinstance(expected, complex):
        return _close(given.real, expected.real, tolerance) and _close(given.imag, expected.imag, tolerance)
    if isinstance(expected, list | tuple):
        return len(given) == len(expected) and all(
            _same(one, other, tolerance) for one, other in zip(given, expected, strict=True)
        )
    if isinstance(expected, dict):
        return _same_keys(given, expected) and all(_same(given[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, set | frozenset):
        return _same_keys(dict.fromkeys(given), dict.fromkeys(expected))
    return bool(given == expected)


def _same_keys(given: dict[Any, Any], expected: dict[Any, Any]) -> bool:
    """Also of the same types: a set that holds True is not one that holds 1."""
    if len(given) != len(expected):
        return False
    kinds = {key: key for key in given}
    return all(key in kinds and _same(kinds[key], key, 0.0) for key in expected)


def _close(given: float, expected: float, tolerance: float) -> bool:
    if math.isnan(expected) or math.isnan(given):
        return math.isnan(expected) and math.isnan(given)
    return given == expected or math.isclose(given, expected, rel_tol=tolerance, abs_tol=tolerance)


def same_text(given: str, expected: str) -> bool:
    """Whether a program printed what was expected, but for space at the ends of lines and of the whole."""
    return _lines(given) == _lines(expected)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
