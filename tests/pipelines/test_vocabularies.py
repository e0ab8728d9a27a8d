"""Models that would misread one another's tokens are refused before a weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.parts import SFT, tiny_model_folder
from tests.pipelines.test_artefacts import BY_MODEL, REWARD_MODEL, SHORT, write
from tests.pipelines.test_changes import rewarded
from tutelage.config import read_recipe
from tutelage.errors import ModelError
from tutelage.pipelines import plan_recipe

OF_ANOTHER = REWARD_MODEL.replace('start = "base"', 'start = "other"')
COMPARE = """
[[stage]]
name = "verdict"
type = "compare"
environment = "sums"
contestants = [{ model = "base" }, { model = "imitate" }]
questions = 3
rewards = [{ type = "task" }]
sampling = { max_new_tokens = 4 }
"""
DISTILLED = BY_MODEL.replace(
    'rewards = [{ type = "reward-model", models = ["liked"] }]',
    'algorithm = { type = "distillation" }\nreference = { model = "other" }',
)
BY_CRITIC = rewarded(BY_MODEL, "{ type = 'task' }").replace(
    "steps = 2", 'algorithm = { type = "ppo", critic = { kind = "model", start = "liked" } }\nsteps = 2'
)
CHOSEN = COMPARE.replace('{ model = "imitate" }', '{ model = "imitate", best_of = 2, by = "liked" }')


def write_with_another(folder: Path, stages: str) -> Path:
    """A recipe whose model `other` is the tiny one with the numbers of two words exchanged."""
    path, other = write(folder, stages), tiny_model_folder(folder / "other")
    tokenizer = other / "tokenizer.json"
    table = json.loads(tokenizer.read_text())
    vocabulary = table["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    tokenizer.write_text(json.dumps(table))
    path.write_text(path.read_text().replace("seed = 3", f'seed = 3\nmodels = {{ other = "{other}" }}'))
    return path


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (DISTILLED, r"pleased\.reference\.model: .* 'other' is another than the policy's.* let it teach by text"),
        (OF_ANOTHER + BY_MODEL, r"pleased\.rewards\[0\]\.models\[0\]: the tokenizer of 'liked' is another"),
        (
            rewarded(BY_MODEL, "{ type = 'implicit', model = 'other' }"),
            r"pleased\.rewards\[0\]\.model: the tokenizer of 'other' is another than the policy's",
        ),
        (OF_ANOTHER + BY_CRITIC, r"pleased\.algorithm\.critic\.start: the tokenizer of 'liked' is another"),
        (COMPARE + 'kl_to = "other"', r"verdict\.kl_to: the tokenizer of 'other' is another than that of 'base'"),
        (OF_ANOTHER + CHOSEN, r"verdict\.contestants\[1\]\.by: .* of 'liked' is another than that of 'imitate'"),
    ],
)
def test_a_model_that_would_misread_tokens_is_refused(tmp_path: Path, stages: str, message: str) -> None:
    path = write_with_another(tmp_path, SFT + stages)
    with pytest.raises(ModelError, match=message):
        plan_recipe(read_recipe(path, SHORT[:1]))


@pytest.mark.parametrize(
    "stages",
    [
        rewarded(BY_MODEL, "{ type = 'local-judge', model = 'other', by = 'words' }"),
        COMPARE.replace('{ model = "base" }', '{ model = "other" }'),
        OF_ANOTHER.replace("[[stage]]", "[[stage]]\nkeep = true") + COMPARE,
    ],
)
def test_one_that_reads_texts_may_have_tokens_of_its_own(tmp_path: Path, stages: str) -> None:
    plan_recipe(read_recipe(write_with_another(tmp_path, SFT + stages), SHORT[:1]))
