"""Evaluations as people say them: "48 % (41–55)", "+42 points (35–49), p < 0.001, McNemar"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.evaluation.summary import Comparison, Scores, Summary, is_binary


def score_name(scores: Scores) -> str:
    """What the mean of these scores is called: a share of right answers is an accuracy."""
    return "accuracy" if is_binary(scores) else "mean score"


def summary_in_words(summary: Summary, share: bool = True) -> str:
    """The mean with its 95 % interval, in per cent where it is a share.

    Args:
        share: may it be one? What is won in games is none, whatever it is.

    >>> summary_in_words(Summary(0.48, 0.412, 0.549, 200, 0))
    '48 % (41–55)'
    """
    low, high = summary.low, summary.high
    if low is None or high is None:
        return f"{summary.mean:.3g} (one question: no interval)"
    if share and low >= 0 and high <= 1:
        return f"{100 * summary.mean:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
    return f"{signed(summary.mean, 3)} ({span(low, high, 3)})"


def bits_in_words(summary: Summary) -> str:
    """What held-out texts cost, with its 95 % interval.

    >>> bits_in_words(Summary(1.913, 1.874, 1.952, 300, 0))
    '1.913 bits a byte (1.874–1.952)'
    """
    low, high = summary.low, summary.high
    interval = "one text: no interval" if low is None or high is None else span(low, high, 3)
    return f"{summary.mean:.3f} bits a byte ({interval})"


def compared_in_words(result: Mapping[str, Any]) -> Iterator[str]:
    """How often each contestant of a comparison beats the first, by each judge."""
    for label, found in result["contestants"].items():
        for judge, won in found["beats"].get(result["against"], {}).items():
            tested = "" if won.get("p_value") is None else f", {p_in_words(won['p_value'])}"
            yield f"{label} beats {result['against']} in {summary_in_words(Summary.of(won))} by {judge}{tested}"


def comparison_in_words(comparison: Comparison, share: bool = True) -> str:
    """The change with its 95 % interval and its test; in points where the scores are shares.

    >>> comparison_in_words(Comparison(0.42, 0.35, 0.49, 1e-9, 200, "McNemar"))
    '+42 points (35–49), p < 0.001, McNemar'
    """
    p_value = p_in_words(comparison.p_value) + (f" (Holm, {comparison.tests} tests)" if comparison.tests > 1 else "")
    return f"{change_in_words(comparison, share)}, {p_value}, {comparison.test}"


def missed_in_words(comparison: Comparison, share: bool = True, wanted: float | None = None) -> str:
    """What could not have been seen; with how many questions a change that is wanted could.

    >>> missed_in_words(Comparison(0.02, -0.05, 0.09, 0.6, 120, "paired permutation test", 0.35), wanted=0.03)
    'with 120 questions a change below 9 points is missed more than 1 time in 5; to see 3 points takes about 1,100'
    """
    seen = comparison.detectable
    size = f"{100 * seen:.0f} points" if share else f"{seen:.3f}"
    text = f"with {comparison.n:,} questions a change below {size} is missed more than 1 time in 5"
    if wanted is None or not wanted < seen:
        return text
    needed = comparison.needed(wanted)
    rounded = math.ceil(needed / 10 ** (digits := max(0, len(str(needed)) - 2))) * 10**digits
    return f"{text}; to see {f'{100 * wanted:.0f} points' if share else f'{wanted:.3f}'} takes about {rounded:,}"


def change_in_words(comparison: Comparison, share: bool = True) -> str:
    """The change with its 95 % interval alone."""
    scale, digits, unit = (100, 0, " points") if share else (1, 3, "")
    plus = "+" if comparison.difference > 0 else ""
    change = f"{plus}{signed(scale * comparison.difference, digits)}{unit}"
    if comparison.low is not None and comparison.high is not None:
        change += f" ({span(scale * comparison.low, scale * comparison.high, digits)})"
    return change


def p_in_words(p_value: float) -> str:
    """A p-value as journals print it."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.995 else "p = 1"


def span(low: float, high: float, digits: int) -> str:
    """`35–49`, but `−2 to 8` where a dash would be read as a sign."""
    joint = "–" if low >= 0 else " to "
    return f"{signed(low, digits)}{joint}{signed(high, digits)}"


def signed(value: float, digits: int) -> str:
    """A number with a real minus sign, and without a negative zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("-")
