"""A plan of whole recipes: every stage told, what does not fit refused with what does, nothing left behind."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from tests.pipelines.parts import EVALUATE, RL, SFT, recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.data.chat import render_prompt
from tutelage.errors import ConfigError
from tutelage.models import describe
from tutelage.models.loading import load_tokenizer
from tutelage.pipelines import plan_recipe
from tutelage.planning import Forecast, Unplanned, forecast
from tutelage.planning.accelerators import ACCELERATORS, LEARNING

_module = import_module("tutelage.planning.forecast")  # the package has the function by that name


def planned(tmp_path: Path, stages: str, **options) -> list[Forecast | Unplanned]:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "model"), stages))
    plan = plan_recipe(read_recipe(path))
    return forecast(plan.recipe, plan.stages, plan.on_this_machine(), lambda line: None, **options)


def test_every_stage_is_told(tmp_path: Path) -> None:
    imitate, reinforce, judge = planned(tmp_path, SFT + RL + EVALUATE)
    assert isinstance(imitate, Forecast)
    assert isinstance(reinforce, Forecast)
    assert isinstance(judge, Forecast)
    assert (imitate.steps, reinforce.steps, judge.steps) == (9, 9, 1)
    assert reinforce.memory["optimizer"] == imitate.memory["optimizer"] > 0 == judge.memory.get("optimizer", 0)
    assert reinforce.memory["reference"] > 0
    assert "reference" not in imitate.memory
    assert all(one.fits and one.total > 0 and one.total == one.before + one.steps * one.seconds
               for one in (imitate, reinforce, judge))  # fmt: skip
    assert imitate.assumed == ""
    assert "6 tokens, the most" in reinforce.assumed


def test_answers_are_as_long_as_is_said(tmp_path: Path) -> None:
    (short,), (long,) = (planned(tmp_path, RL, on="h100", answer=answer) for answer in (1, 6))
    assert isinstance(short, Forecast)
    assert isinstance(long, Forecast)
    assert short.seconds < long.seconds
    assert short.memory["keys and values"] == long.memory["keys and values"]  # there is room for the longest anyway


def test_texts_that_are_shown_beside_the_samples_take_time(tmp_path: Path) -> None:
    """Four updates of three texts each, by the accelerator's figures."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("12 + 30")
    source = f'{{ source = {{ type = "text", path = "{tmp_path}/texts" }}, sequences_per_update = 3 }}'
    (plain,), (beside,) = (planned(tmp_path, RL + more, on="h100") for more in ("", f"pretraining = {source}\n"))
    assert isinstance(plain, Forecast)
    assert isinstance(beside, Forecast)
    folder = tmp_path / "model"
    positions = 4 * 3 * (len(load_tokenizer(folder)("12 + 30").input_ids) + 1)  # and the end
    machine = ACCELERATORS["h100"]
    seconds = positions * 6 * describe(folder).parameters / (machine.flops * LEARNING)
    assert beside.seconds - plain.seconds == pytest.approx(seconds, rel=1e-6)


def test_what_does_not_fit_is_refused_with_the_nearest_that_does(tmp_path: Path, monkeypatch) -> None:
    (fits,) = planned(tmp_path, SFT)
    assert isinstance(fits, Forecast)
    saved = fits.memory["activations"] // 3
    monkeypatch.setattr(_module, "available_bytes", lambda: fits.peak - saved)
    monkeypatch.setattr(_module, "memory_gib", lambda: (fits.memory["process"] - (35 << 20)) / 2**30)
    (refused,) = planned(tmp_path, SFT)
    assert isinstance(refused, Forecast)
    assert not refused.fits
    assert refused.remedy.startswith("imitate.tokens_per_microbatch = ")
    budget = int(refused.remedy.rpartition(" ")[2].rstrip(","))
    assert budget < 160
    (mended,) = planned(tmp_path, SFT.replace("tokens_per_microbatch = 160", f"tokens_per_microbatch = {budget}"))
    assert isinstance(mended, Forecast)
    assert mended.fits


def test_an_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--on abacus"):
        planned(tmp_path, SFT, on="abacus")


def test_the_command_writes_the_same_as_json(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from tutelage.cli.commands import app

    path, out = tmp_path / "recipe.toml", tmp_path / "plan.json"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "model"), SFT))
    result = CliRunner().invoke(app, ["check", str(path), "--plan", "--json", str(out)])
    assert result.exit_code == 0, result.output
    (told,) = json.loads(out.read_text())
    assert told["stage"] == "imitate"
    assert told["fits"]
    assert told["peak_bytes"] == sum(told["memory_bytes"].values())
    alone = CliRunner().invoke(app, ["check", str(path), "--on", "h100"])
    assert isinstance(alone.exception, ConfigError)
    assert "add --plan" in str(alone.exception)


def test_a_comparison_asks_what_its_first_contestant_is(tmp_path: Path) -> None:
    """Before a stage has trained it, nobody knows how long its answers will be."""
    compare = (
        '[[stage]]\nname = "who"\ntype = "compare"\nenvironment = "sums"\nrewards = [{{ type = "task" }}]\n'
        'sampling = {{ max_new_tokens = 5 }}\ncontestants = [{{ model = "{}" }}, {{ model = "{}" }}]\n'
    )
    told = [planned(tmp_path, SFT + compare.format(*pair))[1] for pair in (("base", "imitate"), ("imitate", "base"))]
    first, second = (one.assumed for one in told if isinstance(one, Forecast))
    assert "as the model writes them now" in first
    assert second == "answers of 5 tokens, the most it allows"


def test_a_comparison_counts_what_chooses_and_what_judges(tmp_path: Path) -> None:
    """Four candidates of the one and the other's only answer, by an accelerator's figures and by this machine's."""
    rows = [{"prompt": "1 + 2", "chosen": "3", "rejected": "4"}] * 2
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages = (
        '[[stage]]\nname = "liked"\ntype = "reward-model"\nsteps = 1\n'
        f'source = {{{{ type = "jsonl", path = "{tmp_path}/pairs.jsonl" }}}}\n'
        '[[stage]]\nname = "who"\ntype = "compare"\nenvironment = "sums"\nsampling = {{ max_new_tokens = 5 }}\n'
        'contestants = [{{ model = "base" }}, {{ model = "base", name = "best", best_of = 4, by = "liked" }}]\n'
        "rewards = [{}]\n{}\n"
    )
    plain = ('{ type = "task" }', "")
    judged = ('{ type = "reward-model", models = ["liked"] }', "")
    measured = ('{ type = "task" }', 'kl_to = "base"')

    def told(pair: tuple[str, str], **options) -> Forecast:
        one = planned(tmp_path, stages.format(*pair), **options)[1]
        assert isinstance(one, Forecast)
        return one

    path = tmp_path / "recipe.toml"
    first, more, distant = (told(pair, on="h100", answer=5) for pair in (plain, judged, measured))
    prompts = plan_recipe(read_recipe(path)).stages[1].prompts
    folder = tmp_path / "model"
    read = sum(len(render_prompt(load_tokenizer(folder), prompt)) for prompt in prompts)
    machine, parameters = ACCELERATORS["h100"], describe(folder).parameters
    position = 2 * parameters / (machine.flops * LEARNING)
    # Tokens: the prompts are read once, five answers of five tokens are written to each.
    candidates = read + len(prompts) * 5 * 5
    # Of the five, four are read to choose; a judge reads two of five more; for the KL, two models read one of five.
    assert more.seconds - first.seconds == pytest.approx(candidates * position * 2 / 5, rel=1e-6)
    assert distant.seconds - first.seconds == pytest.approx(candidates * position * 2 / 5, rel=1e-6)
    assert first.memory["reward models"] == 2 * parameters  # in bf16
    assert more.memory["reward models"] == 2 * first.memory["reward models"]  # one judges, a second copy chooses
    assert distant.memory["reference"] == 2 * parameters
    assert told(plain, answer=5).seconds > 0
