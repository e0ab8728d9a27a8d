"""Scores with their uncertainty: intervals, paired tests, pass@k. numpy only."""

from tutelage.evaluation.passk import pass_at_k, pass_at_k_scores
from tutelage.evaluation.summary import Comparison, Scores, Summary, compare, is_binary, summarise, summarise_ratio

__all__ = [
    "Comparison",
    "Scores",
    "Summary",
    "compare",
    "is_binary",
    "pass_at_k",
    "pass_at_k_scores",
    "summarise",
    "summarise_ratio",
]
