"""Numbers as people say them."""

import pytest

from tutelage.evaluation import Comparison, Summary
from tutelage.evaluation.words import bits_in_words, comparison_in_words, p_in_words, score_name, summary_in_words


def test_summaries():
    assert summary_in_words(Summary(0.48, 0.412, 0.549, 200, 0)) == "48 % (41–55)"
    assert summary_in_words(Summary(1.0, 0.981, 1.0, 200, 0)) == "100 % (98–100)"
    assert summary_in_words(Summary(-0.2, -0.51, 0.11, 50, 0)) == "−0.200 (−0.510 to 0.110)"
    assert summary_in_words(Summary(0.48, 0.412, 0.549, 200, 0), share=False) == "0.480 (0.412–0.549)"
    assert summary_in_words(Summary(0.5, None, None, 1, 0)) == "0.5 (one question: no interval)"


def test_bits():
    assert bits_in_words(Summary(1.913, 1.874, 1.952, 300, 0)) == "1.913 bits a byte (1.874–1.952)"
    assert bits_in_words(Summary(0.5, None, None, 1, 0)) == "0.500 bits a byte (one text: no interval)"


def test_comparisons():
    gain = Comparison(0.42, 0.35, 0.49, 1e-9, 200, "McNemar")
    assert comparison_in_words(gain) == "+42 points (35–49), p < 0.001, McNemar"
    loss = Comparison(-0.03, -0.081, 0.022, 0.31, 200, "McNemar")
    assert comparison_in_words(loss) == "−3 points (−8 to 2), p = 0.31, McNemar"
    none = Comparison(-0.0001, -0.02, 0.02, 1.0, 200, "McNemar")
    assert comparison_in_words(none).startswith("0 points (−2 to 2), p = 1,")
    reward = Comparison(1.25, 0.5, 2.0, 0.0123, 40, "paired permutation test")
    assert comparison_in_words(reward, share=False) == "+1.250 (0.500–2.000), p = 0.012, paired permutation test"
    single = Comparison(0.2, None, None, 1.0, 1, "paired permutation test")
    assert comparison_in_words(single) == "+20 points, p = 1, paired permutation test"


@pytest.mark.parametrize(
    ("p", "words"), [(0.0009, "p < 0.001"), (0.001, "p = 0.001"), (0.25, "p = 0.25"), (1.0, "p = 1")]
)
def test_p_values(p, words):
    assert p_in_words(p) == words


def test_score_names():
    assert score_name({"a": [1.0], "b": [None]}) == "accuracy"
    assert score_name({"a": [0.4]}) == "mean score"
