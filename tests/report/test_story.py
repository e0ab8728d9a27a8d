"""The headline and the tables claim what the tests allow, and compare only what is comparable."""

import copy

import pytest

from tests.report.factory import RECIPE, write_json, write_run
from tutelage.report.read import read_run
from tutelage.report.story import evaluation_tables, headline


def tables_of(tmp_path, *scores, change=None, samples=1):
    """A run of evaluations only, with these scores by question."""
    recipe = copy.deepcopy(RECIPE)
    stages = [{**RECIPE["stage"][0], "name": f"e{i}", "samples": samples} for i in range(len(scores))]
    stages[-1] |= change or {}
    recipe["stage"] = stages
    write_json(tmp_path / "recipe.json", {"recipe": recipe})
    for i, given in enumerate(scores):
        result = {"type": "evaluate", "scores": given, "summary": {}, "components": {}}
        write_json(tmp_path / "stages" / f"{i + 1:02d}-e{i}" / "result.json", result)
    return evaluation_tables(read_run(tmp_path))


def right(share, n=200):
    return {str(i): [float(i < share * n)] for i in range(n)}


def test_a_gain_in_a_sentence(tmp_path):
    tables = tables_of(tmp_path, right(0.48), right(0.9))
    assert headline(tables) == (
        "Accuracy on 200 held-out questions rose from 48 % (41–55) to 90 % (85–93): "
        "+42 points (35–49), p < 0.001, McNemar."
    )
    assert tables[0].rows[0].change is None
    assert (tables[0].per_cent(0.48), tables[0].decoding) == (48.0, "greedy")


def test_a_loss_is_called_one(tmp_path):
    assert "fell from 90 % (85–93) to 48 %" in headline(tables_of(tmp_path, right(0.9), right(0.48)))


def test_noise_is_not_called_a_gain(tmp_path):
    sentence = headline(tables_of(tmp_path, right(0.48), right(0.5)))
    assert "went from 48 % (41–55) to 50 % (43–57). No measurable change: +2 points" in sentence
    assert "rose" not in sentence


def test_what_could_not_have_been_seen_is_said(tmp_path):
    sentence = headline(tables_of(tmp_path, right(0.48), right(0.5)))
    assert "with 200 questions a change below" in sentence
    assert sentence.endswith("is missed more than 1 time in 5.")


def test_changes_of_a_page_are_corrected_together(tmp_path):
    """Nine of 40 gained has p = 0.004 alone; among 15 that say so it is nothing."""
    first, later = ({str(i): [float(i < n)] for i in range(40)} for n in (20, 29))
    (table,) = tables_of(tmp_path, first, later)
    assert table.rows[1].change.measurable
    (table,) = tables_of(tmp_path, first, later, *[first] * 14)
    assert not table.rows[1].change.measurable
    assert "p = 0.059 (Holm, 15 tests), McNemar" in table.rows[1].change_in_words


def test_each_later_one_is_compared_with_the_first(tmp_path):
    (table,) = tables_of(tmp_path, right(0.4), right(0.6), right(0.8))
    assert [row.change and round(row.change.difference, 6) for row in table.rows] == [None, 0.2, 0.4]
    assert "to 80 %" in headline([table])


@pytest.mark.parametrize(
    "change", [{"split": "train"}, {"sampling": {"temperature": 1.0}}, {"rewards": [{"type": "length"}]}]
)
def test_what_differs_in_more_than_the_model_is_not_compared(tmp_path, change):
    tables = tables_of(tmp_path, right(0.4), right(0.8), change=change)
    assert [len(table.rows) for table in tables] == [1, 1]
    assert headline(tables) == "Accuracy on 200 held-out questions: 40 % (33–47)."


def test_fractions_are_scores_not_accuracies(tmp_path):
    tables = tables_of(
        tmp_path, {str(i): [i / 40, 0.5] for i in range(20)}, {str(i): [0.9, 0.8] for i in range(20)}, samples=2
    )
    assert headline(tables).startswith("Mean score on 20 held-out questions rose from 37 % (")
    assert "paired permutation test" in headline(tables)
    assert tables[0].decoding == "greedy, 2 samples a question"


def test_rewards_outside_of_0_and_1_have_their_own_scale(tmp_path):
    (table,) = tables_of(tmp_path, {"a": [-2.0], "b": [1.0]}, {"a": [3.0], "b": [4.0]})
    low, high = table.scale
    assert low < -0.5 < 3.5 < high
    assert "points" not in table.rows[1].change_in_words
    (constant,) = tables_of(tmp_path, {"a": [5.0], "b": [5.0]})
    assert constant.per_cent(5.0) == 50.0


def test_evaluations_of_which_nothing_was_scored(tmp_path):
    assert tables_of(tmp_path, {"a": [None]}) == []
    assert headline([]) == "No evaluation is finished yet."
    (table,) = tables_of(tmp_path, {"a": [1.0]}, {"a": [None], "b": [0.0]})
    assert table.rows[1].change is None  # no question was scored in both


def test_the_factory_is_what_the_other_tests_think(tmp_path):
    assert "rose" in headline(evaluation_tables(read_run(write_run(tmp_path, steps=1))))
