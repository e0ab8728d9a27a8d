"""Scores with their uncertainty: intervals, paired tests and their correction, pass@k and its kin, runs. numpy only."""

from tutelage.evaluation.many import detectable, holm, questions_needed
from tutelage.evaluation.passk import (
    best_at_n,
    best_at_n_scores,
    majority_at_k,
    majority_at_k_scores,
    pass_at_k,
    pass_at_k_scores,
)
from tutelage.evaluation.runs import interquartile_mean, stratified_bootstrap
from tutelage.evaluation.summary import (
    Comparison,
    Scores,
    Summary,
    compare,
    compare_ratio,
    corrected,
    is_binary,
    summarise,
    summarise_ratio,
)

__all__ = [
    "Comparison",
    "Scores",
    "Summary",
    "best_at_n",
    "best_at_n_scores",
    "compare",
    "compare_ratio",
    "corrected",
    "detectable",
    "holm",
    "interquartile_mean",
    "is_binary",
    "majority_at_k",
    "majority_at_k_scores",
    "pass_at_k",
    "pass_at_k_scores",
    "questions_needed",
    "stratified_bootstrap",
    "summarise",
    "summarise_ratio",
]
