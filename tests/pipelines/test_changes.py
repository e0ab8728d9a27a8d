"""What is noticed of a change, and what is noticed of damage: each of these once went by without a word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import EVALUATE, RL, SFT, tiny_model_folder
from tests.pipelines.test_artefacts import REWARD_MODEL, SHORT, digests, run, would, write
from tutelage.config import read_recipe
from tutelage.data.journal import Journal
from tutelage.errors import ConfigError, DataError, RunFolderError
from tutelage.pipelines import aggregate, artefact, keys, plan_recipe, resume_run, run_recipe, sources
from tutelage.training import Quiet

STANDS = "stands: nothing that it depends on has changed"


class Stopped(BaseException):
    """As if by a signal."""


class StopsAt(Quiet):
    """Stops a run in a stage, after so many steps."""

    def __init__(self, stage: str, steps: int) -> None:
        self.stage, self.steps, self.now = stage, steps, ""

    def begin_stage(self, name: str, *rest: Any) -> None:
        self.now = name

    def step(self, step: int, metrics: Any) -> None:
        if (self.now, step) == (self.stage, self.steps):
            raise Stopped


def stop(path: Path, at: StopsAt, *overrides: str) -> Path:
    out = path.parent / "run"
    with pytest.raises(Stopped):
        run_recipe(read_recipe(path, overrides), out, at)
    return out


def lines(out: Path, log: str) -> Counter[str]:
    records = map(json.loads, (out / log).read_text().splitlines())
    return Counter(str(record["stage"]).partition(":")[0] for record in records)


def rewarded(stage: str, reward: str) -> str:
    """The stage with this reward instead of its own."""
    return re.sub(r"^rewards = .*$", lambda _: f"rewards = [{reward}]", stage, flags=re.MULTILINE)


def test_a_changed_recipe_that_is_stopped_and_resumed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + RL + EVALUATE)
    out = run(path, *SHORT)
    changed = (*SHORT, "imitate.optimizer.lr=1e-2")
    stop(path, StopsAt("imitate", 1), *changed)
    resume_run(out, Quiet())
    assert set(would(path, *changed).values()) == {STANDS}

    (tmp_path / "again").mkdir()
    whole = tmp_path / "again/run"
    run_recipe(read_recipe(path, changed), whole, Quiet())
    assert digests(out) == digests(whole)


def test_a_stage_put_in_before_a_half_done_one_keeps_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + RL)
    overrides = ("imitate.steps=2", "reinforce.steps=4", "reinforce.checkpoints.every=1")
    stop(path, StopsAt("reinforce", 3), *overrides)
    write(tmp_path, SFT + EVALUATE + RL)
    out = run(path, *overrides)
    assert lines(out, "metrics.jsonl") == {"imitate": 2, "reinforce": 4}
    assert lines(out, "samples.jsonl") == {"judge": 40, "reinforce": 4 * 24}


@pytest.mark.parametrize("died", [1, 2, 3])
def test_lines_of_a_stage_that_runs_again_are_not_left_by_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: int
) -> None:
    path = write(tmp_path, SFT + EVALUATE)
    run(path, SHORT[0])
    real, calls = Journal.keep_only, 0

    def dies(journal: Journal, wanted: Callable[..., bool]) -> None:
        nonlocal calls
        calls += 1
        if calls == died:
            raise Stopped
        real(journal, wanted)

    changed = (SHORT[0], "imitate.optimizer.lr=1e-2", "judge.samples=3")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "keep_only", dies)
        with pytest.raises(Stopped):
            run(path, *changed)
    out = run(path, *changed)
    assert lines(out, "metrics.jsonl") == {"imitate": 2}
    assert lines(out, "samples.jsonl") == {"judge": 60}


def test_a_card_that_a_kill_left_out_is_written_by_the_next_run(tmp_path: Path) -> None:
    path = write(tmp_path, SFT)
    out = run(path, SHORT[0])
    card = out / "stages/01-imitate/model/README.md"
    told = card.read_text()
    card.unlink()
    resume_run(out, Quiet())
    assert card.read_text() == told


def test_another_chat_template_is_another_input(tmp_path: Path) -> None:
    path = write(tmp_path, SFT)
    run(path, SHORT[0])
    template = tmp_path / "tiny/chat_template.jinja"
    template.write_text("Be brief. " + template.read_text())
    artefact._digest.cache_clear()  # as in a new process
    assert would(path, SHORT[0])["imitate"].startswith("runs: its input 'base' is another")


def test_a_model_given_as_a_folder_is_an_input(tmp_path: Path) -> None:
    path = write(tmp_path, REWARD_MODEL)
    given = run(path) / "stages/01-liked/model"
    (tmp_path / "uses").mkdir()
    by_it = f"{{ type = 'reward-model', models = ['{given}'] }}"
    uses = write(tmp_path / "uses", rewarded(EVALUATE, by_it))
    run(uses)
    assert would(uses) == {"judge": STANDS}
    weights = given / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"0")
    artefact._digest.cache_clear()
    assert would(uses)["judge"].startswith(f"runs: its input '{given}' is another")


def test_a_row_that_goes_over_from_the_training_data_to_the_test_is_a_change(tmp_path: Path) -> None:
    stage = REWARD_MODEL.replace("steps = 2", f"test = {{ type = 'jsonl', path = '{tmp_path}/test.jsonl' }}\nsteps = 2")
    (tmp_path / "test.jsonl").write_text('{"question": "5?", "chosen": "5", "rejected": "not 5"}\n')
    path = write(tmp_path, stage)
    run(path)
    assert would(path) == {"liked": STANDS}
    *rows, last = (tmp_path / "pairs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "pairs.jsonl").write_text("".join(rows))
    (tmp_path / "test.jsonl").write_text(last + (tmp_path / "test.jsonl").read_text())
    assert would(path) == {"liked": "runs: its data are others"}


def test_what_a_users_own_module_imports_is_code_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "aside.py").write_text("WORTH = 1.0\n")
    (tmp_path / "ours.py").write_text("from aside import WORTH\n\ndef reward(prompt, sample):\n    return WORTH\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write(tmp_path, RL.replace("tests.pipelines.rewards:share_of_digits", "ours:reward"))
    run(path, SHORT[1])
    (tmp_path / "aside.py").write_text("WORTH = 2.0\n")
    keys._digest.cache_clear()
    assert would(path, SHORT[1]) == {"reinforce": "runs: the code of its method is another"}


def test_a_stage_depends_on_what_its_rooms_offer_and_not_on_all_that_lies_there(tmp_path: Path) -> None:
    (plan,) = plan_recipe(read_recipe(write(tmp_path, EVALUATE))).stages
    found = {"/".join(path.parts[-2:]) for path in sources.sources_of(plan)}
    assert {"evaluation/intervals.py", "rewards/suite.py", "stages/evaluate.py", "rewards/numeric.py"} <= found
    assert not {"algorithms/grpo.py", "stages/rl.py", "rewards/code.py", "config/stages.py"} & found


def test_a_judge_whose_name_looks_like_a_function_is_no_code(tmp_path: Path) -> None:
    judge = "{ type = 'judge', url = 'http://127.0.0.1:1/v1', model = 'qwen2.5:7b' }"
    path = write(tmp_path, rewarded(EVALUATE, judge))
    (tmp_path / "run").mkdir()
    assert would(path) == {"judge": "runs: it has not run"}


@pytest.mark.parametrize("damage", ["torn", "score"])
def test_a_result_that_was_altered_is_refused_and_forcing_mends_it(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, EVALUATE)
    out = run(path)
    result = out / "stages/01-judge/result.json"
    text = result.read_text()
    result.write_text(text[:20] if damage == "torn" else text.replace('"type"', '"kind"'))
    for again in (run, would):
        with pytest.raises(RunFolderError, match=r"01-judge/result\.json: does not have .* --force judge"):
            again(path)
    run(path, force=("judge",))
    assert would(path) == {"judge": STANDS}


def test_a_torn_manifest_is_mended_by_what_its_message_says(tmp_path: Path) -> None:
    path = write(tmp_path, SFT)
    out = run(path, SHORT[0])
    manifest = out / "stages/01-imitate/manifest.json"
    manifest.write_text(manifest.read_text()[:30])
    with pytest.raises(RunFolderError, match=r"manifest\.json: cannot be read .* --force imitate"):
        run(path, SHORT[0])
    run(path, SHORT[0], force=("imitate",))
    assert set(json.loads(manifest.read_text())["versions"]) >= {"tutelage", "torch", "transformers"}


def test_a_run_that_is_not_there_is_not_made_by_going_on_with_it(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no run lies here"):
        resume_run(tmp_path / "typo", Quiet())
    assert not (tmp_path / "typo").exists()


def test_stages_that_the_recipe_has_no_more_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, EVALUATE)
    run(path)
    write(tmp_path, EVALUATE.replace('"judge"', '"verdict"'))
    out = run(path)
    assert [one.name for one in aggregate([out])] == ["verdict"]


def test_a_loops_stage_is_forced_in_all_its_rounds(tmp_path: Path) -> None:
    loop = '[[stage]]\ntype = "repeat"\nname = "rounds"\ntimes = 2\n' + SFT.replace("[[stage]]", "[[stage.stage]]")
    path = write(tmp_path, loop)
    run(path, SHORT[0])
    run(path, SHORT[0], force=("imitate",))
    assert sorted(path.name for path in (tmp_path / "run/replaced").iterdir()) == ["01-imitate-1", "02-imitate-2"]


def test_a_card_names_the_model_that_it_comes_from_and_only_its_own_scores(tmp_path: Path) -> None:
    judged = rewarded(EVALUATE, "{ type = 'reward-model', models = ['liked'] }")
    path = write(tmp_path, SFT + REWARD_MODEL.replace('start = "base"', 'start = "other"') + judged)
    other = tiny_model_folder(tmp_path / "other")
    path.write_text(path.read_text().replace("seed = 3", f'seed = 3\nmodels = {{ other = "{other}" }}'))
    out = run(path, SHORT[0])
    liked = (out / "stages/02-liked/model/README.md").read_text()
    assert f"base_model: {other}\n" in liked
    assert "| judge |" not in liked
    assert "| judge | score |" in (out / "stages/01-imitate/model/README.md").read_text()


def test_a_gate_that_the_kind_of_judgements_cannot_meet_is_refused(tmp_path: Path) -> None:
    stage = REWARD_MODEL.replace("steps = 2", "test = { type = 'jsonl', path = 'PAIRS' }\nsteps = 2")
    path = write(tmp_path, stage)
    with pytest.raises(ConfigError, match=r"liked\.require: whole answers were judged, .* no first_error_f1"):
        plan_recipe(read_recipe(path, ["liked.require='first_error_f1 >= 0.5'"]))


def test_a_corpus_of_less_than_one_sequence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "a b c"}\n')
    stage = f"""
[[stage]]
name = "read"
type = "pretrain"
source = {{ type = "jsonl", path = "{tmp_path}/text.jsonl" }}
steps = 2
context = 32
tokens_per_step = 64
"""
    with pytest.raises(DataError, match=r"read\.source: its texts have fewer tokens than one sequence, 32"):
        plan_recipe(read_recipe(write(tmp_path, stage)))
