"""What stages leave for one another: what stands, what runs again and why, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.parts import EVALUATE, RL, SFT, recipe_text, tiny_model_folder
from tutelage.config import read_recipe, reads
from tutelage.errors import ConfigError, GateError, RunFolderError
from tutelage.pipelines import artefact, read_result, resume_run, run_recipe, run_status
from tutelage.pipelines.artefact import read_artefact
from tutelage.pipelines.keys import Key
from tutelage.training import Quiet

REWARD_MODEL = """
[[stage]]
name = "liked"
type = "reward-model"
start = "base"
source = { type = "jsonl", path = "PAIRS" }
steps = 2
prompts_per_step = 2
"""
BY_MODEL = """
[[stage]]
name = "pleased"
type = "rl"
start = "imitate"
environment = "sums"
rewards = [{ type = "reward-model", models = ["liked"] }]
steps = 2
prompts_per_step = 2
completions_per_prompt = 2
sampling = { max_new_tokens = 4 }
"""
SHORT = ["imitate.steps=2", "reinforce.steps=2"]


def write(folder: Path, stages: str) -> Path:
    pairs = folder / "pairs.jsonl"
    rows = [{"question": f"{n}?", "chosen": str(n), "rejected": f"not {n}"} for n in range(4)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), stages.replace("PAIRS", str(pairs))))
    return path


def run(path: Path, *overrides: str, force: tuple[str, ...] = ()) -> Path:
    out = path.parent / "run"
    run_recipe(read_recipe(path, overrides), out, Quiet(), force)
    return out


def would(path: Path, *overrides: str) -> dict[str, str]:
    """Of each stage, what is to be done and why."""
    found = run_status(path.parent / "run", read_recipe(path, overrides))
    return {one.stage.name: f"{one.decision.do}: {one.decision.why}" for one in found}


def digests(out: Path) -> dict[str, str]:
    found = {path.parent.name: read_artefact(path.parent) for path in sorted(out.glob("stages/*/manifest.json"))}
    return {name: artefact.digest for name, artefact in found.items() if artefact is not None}


def written(out: Path) -> dict[str, float]:
    """When each stage was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("stages/*/result.json")}


def test_a_changed_stage_runs_again_with_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + REWARD_MODEL + BY_MODEL)
    out = run(path, *SHORT[:1])
    before, then = written(out), digests(out)
    assert {why.partition(":")[0] for why in would(path, *SHORT[:1]).values()} == {"stands"}
    run(path, *SHORT[:1])
    assert written(out) == before

    changed = (*SHORT[:1], "liked.optimizer.lr=1e-3")
    assert would(path, *changed) == {
        "imitate": "stands: nothing that it depends on has changed",
        "liked": "runs: optimizer.lr 9e-06 -> 0.001",
        "pleased": "runs: its input 'liked' is made anew",
    }
    run(path, *changed)
    after, now = written(out), digests(out)
    assert {name for name in after if after[name] != before[name]} == {"02-liked", "03-pleased"}
    assert {name for name in now if now[name] != then[name]} == {"02-liked", "03-pleased"}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sorted((line["stage"], line["step"]) for line in lines) == [
        (stage, step) for stage in ("imitate", "liked", "pleased") for step in (1, 2)
    ]
    assert (out / "replaced/02-liked/model").is_dir()  # nothing is lost

    run(path, *SHORT[:1])  # back again: the same artefacts, digest for digest
    assert digests(out) == then


def test_what_comes_out_the_same_spares_what_depends_on_it(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + RL)
    out = run(path, *SHORT)
    before = written(out)
    run(path, *SHORT, force=("imitate",))
    assert {name for name in before if written(out)[name] != before[name]} == {"01-imitate"}
    with pytest.raises(ConfigError, match=r"--force imitat: the recipe has no such stage; it has imitate, reinforce"):
        run(path, *SHORT, force=("imitat",))


def test_data_and_code_are_part_of_what_a_stage_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, REWARD_MODEL.replace('start = "base"\n', ""))
    run(path)
    rows = (tmp_path / "pairs.jsonl").read_text().replace("not 3", "never 3")
    (tmp_path / "pairs.jsonl").write_text(rows)
    assert would(path) == {"liked": "runs: its data are others"}

    (tmp_path / "mine.py").write_text("def reward(prompt, sample):\n    return float(len(sample.tokens))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", RL.replace("tests.pipelines.rewards:share_of_digits", "mine:reward"))
    run(other, SHORT[1])
    assert would(other, SHORT[1]) == {"reinforce": "stands: nothing that it depends on has changed"}
    assert would(other, SHORT[1], "reinforce.record.inspect=0")["reinforce"].startswith("stands")
    (tmp_path / "mine.py").write_text("def reward(prompt, sample):\n    return 1.0\n")
    from tutelage.pipelines import keys

    keys._digest.cache_clear()  # as in a new process
    assert would(other, SHORT[1]) == {"reinforce": "runs: the code of its method is another"}


def test_a_stage_that_moves_in_the_recipe_takes_its_folder_along(tmp_path: Path) -> None:
    path = write(tmp_path, RL.replace("[[stage]]", '[[stage]]\nstart = "base"'))
    out = run(path, SHORT[1])
    before = written(out)["01-reinforce"]
    write(
        tmp_path,
        SFT.replace("[[stage]]", "[[stage]]\nkeep = true") + RL.replace("[[stage]]", '[[stage]]\nstart = "base"'),
    )
    run(path, *SHORT)
    assert written(out)["02-reinforce"] == before
    assert sorted(path.name for path in (out / "stages").iterdir()) == ["01-imitate", "02-reinforce"]


def test_an_artefact_that_was_changed_is_refused_by_whoever_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + RL)
    out = run(path, *SHORT)
    weights = out / "stages/01-imitate/model/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(
        RunFolderError, match=r"01-imitate/model/model\.safetensors: does not have the SHA-256.*--force imit"
    ):
        run(path, *SHORT, "reinforce.optimizer.lr=1e-4")
    weights.unlink()
    with pytest.raises(RunFolderError, match=r"model\.safetensors: is missing; put it back, or .*--force imitate"):
        run(path, *SHORT, "reinforce.optimizer.lr=1e-4")
    run(path, *SHORT, "reinforce.optimizer.lr=1e-4", force=("imitate",))


def test_a_gate_stops_the_run_with_its_figure(tmp_path: Path) -> None:
    gated = EVALUATE.replace("[[stage]]", '[[stage]]\nrequire = "score >= 2.0"')
    path = write(tmp_path, SFT + gated + RL)
    with pytest.raises(
        GateError, match=r"judge\.require: 'score >= 2\.0' is not met: score is 0\.\d+\. What the stage"
    ):
        run(path, *SHORT)
    out = tmp_path / "run"
    assert (out / "stages/02-judge/manifest.json").is_file()
    assert not (out / "stages/03-reinforce").exists()
    with pytest.raises(GateError):
        resume_run(out, Quiet())
    before = written(out)
    run(path, *SHORT, "judge.require=['score >= 0', 'score<=1']")
    assert {name: written(out)[name] for name in before} == before
    assert read_result(out / "stages/03-reinforce") is not None


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("accuracy >= 0.6", r"stage\[1\]\.require: 'judge' leaves no figure 'accuracy': known: "),
        ("scor >= 0.6", r"did you mean 'score'\?"),
        ("score = 0.6", r"stage\[1\].*require.*write a gate as FIGURE >= NUMBER"),
        ("score >= much", r"write a gate as FIGURE >= NUMBER"),
    ],
)
def test_gates_that_cannot_be_judged_are_refused(tmp_path: Path, gate: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe(write(tmp_path, SFT + EVALUATE), [f"judge.require={gate!r}"])


def test_a_gate_on_a_stage_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'reinforce' leaves no figure 'reward': it leaves none; gate an evaluate stage"
    ):
        read_recipe(write(tmp_path, RL), ["reinforce.require='reward > 0'"])


@pytest.mark.parametrize(
    ("stages", "overrides", "message"),
    [
        (
            SFT + RL,
            ["reinforce.start=base"],
            r"stage\[0\]: nothing after 'imitate' uses the policy that it leaves; name it",
        ),
        (SFT + REWARD_MODEL + RL, [], r"stage\[1\]: nothing after 'liked' uses the reward model that it leaves"),
        (BY_MODEL, ["pleased.start=base"], r"pleased\.rewards\[0\]\.models: 'liked' is neither a reward-model stage"),
        (
            SFT + BY_MODEL + REWARD_MODEL,
            [],
            r"stage\[1\]\.rewards\[0\]\.models\[0\]: 'liked' comes after this stage, so it has left nothing yet",
        ),
        (
            SFT + REWARD_MODEL + BY_MODEL,
            ["liked.name=x", "pleased.rewards=[{type='reward-model', models=['imitate']}]"],
            r"rewards\[0\]\.models\[0\]: wanted is a stage that leaves: reward model; 'imitate' \(sft\) leaves: pol",
        ),
    ],
)
def test_artefacts_that_do_not_fit_are_refused(tmp_path: Path, stages: str, overrides: list[str], message: str) -> None:
    from tutelage.pipelines import plan_recipe

    with pytest.raises(ConfigError, match=message):
        plan_recipe(read_recipe(write(tmp_path, stages), overrides))


def test_keep_says_that_a_stage_is_wanted_for_itself(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, SFT + RL), ["reinforce.start=base", "imitate.keep=true"])
    assert [reads(stage, recipe.before(stage.name), {}) for stage in recipe.stage] == [[], []]


ROUNDS = """
[[stage]]
type = "repeat"
name = "rounds"
times = 3
[[stage.stage]]
name = "sample"
type = "label"
environment = "sums"
rewards = [{ type = "task" }]
[[stage.stage]]
name = "prefer"
type = "preference"
source = { type = "stage", stage = "sample" }

[[stage]]
name = "verdict"
type = "compare"
environment = "sums"
contestants = [{ model = "base" }, { model = "prefer-1" }, { model = "prefer" }]
rewards = [{ type = "task" }]
"""


def test_a_loop_is_written_out(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, SFT + ROUNDS), ["prefer.steps=7"])
    names = [stage.name for stage in recipe.stage]
    assert names == ["imitate", *(f"{name}-{k}" for k in (1, 2, 3) for name in ("sample", "prefer")), "verdict"]
    assert {stage.name: reads(stage, recipe.before(stage.name), {}) for stage in recipe.stage} == {
        "imitate": [],
        "sample-1": ["imitate"],
        "prefer-1": ["imitate", "sample-1"],
        "sample-2": ["prefer-1"],
        "prefer-2": ["prefer-1", "sample-2"],
        "sample-3": ["prefer-2"],
        "prefer-3": ["prefer-2", "sample-3"],
        "verdict": ["prefer-1", "prefer-3"],
    }
    assert {stage.steps for stage in recipe.stage if stage.type == "preference"} == {7}


def test_a_loop_names_the_last_round_and_in_the_first_one_what_it_is_told(tmp_path: Path) -> None:
    backwards = ROUNDS.replace('type = "label"', 'type = "label"\nstart = "prefer"')
    with pytest.raises(ConfigError, match=r"stage\[1\]\.start: no stage before this one leaves 'prefer'"):
        read_recipe(write(tmp_path, SFT + backwards))
    told = backwards.replace("times = 3", 'times = 3\nfirst = { prefer = "imitate" }')
    recipe = read_recipe(write(tmp_path, SFT + told))
    starts = [getattr(stage, "start", None) for stage in recipe.stage if stage.type == "label"]
    assert starts == ["imitate", "prefer-1", "prefer-2"]
    with pytest.raises(ConfigError, match=r"first: no stage of this loop is called \['nobody'\]"):
        read_recipe(write(tmp_path, SFT + told.replace("{ prefer =", "{ nobody =")))
    with pytest.raises(ConfigError, match="a loop within a loop"):
        read_recipe(write(tmp_path, SFT + ROUNDS.replace('type = "label"', 'type = "repeat"')))


def test_a_card_tells_who_made_a_model_from_what_how_and_what_it_scored(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + EVALUATE)
    out = run(path, SHORT[0])
    card = (out / "stages/01-imitate/model/README.md").read_text()
    result = json.loads((out / "stages/02-judge/result.json").read_text())
    for part in (
        f"base_model: {tmp_path / 'tiny'}",
        "# test: imitate",
        "Supervised fine-tuning. Stage `imitate` of the run `test`, seed 3",
        "- `base`, digest ",
        f"| judge | score | {result['summary']['score']['mean']:.4g} |",
        '"steps": 2',
    ):
        assert part in card, part


KILLED = """
import os, signal, sys
from tutelage.cli import main
from tutelage.pipelines import run as pipeline

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

plain = pipeline.{function}
calls = 0
def dies(*arguments, **more):
    global calls
    calls += 1
    if calls == {call}:
        if {after}:
            plain(*arguments, **more)
        die()
    return plain(*arguments, **more)
pipeline.{function} = dies
sys.argv[1:] = {arguments!r}
main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = write(tmp_path_factory.mktemp("boundaries"), SFT + REWARD_MODEL + BY_MODEL)
    path.write_text(path.read_text().replace("steps = 9", "steps = 2"))
    return path, digests(run(path))


@pytest.mark.parametrize("function", ["run_stage", "seal", "write_json"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_boundary_it_ends_with_the_same_artefacts(
    whole: tuple[Path, dict[str, str]], function: str, after: bool, tmp_path: Path
) -> None:
    """Between a stage's work, its result and its manifest, of the second of three stages."""
    path, expected = whole
    call = 4 if function == "write_json" else 2  # begin.json and result.json of each stage
    out = tmp_path / "run"
    script = KILLED.format(function=function, call=call, after=after, arguments=["run", str(path), "--out", str(out)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stdout.decode()
    first = (out / "stages/01-imitate/result.json").stat().st_mtime_ns
    resume_run(out, Quiet())
    assert digests(out) == expected
    assert (out / "stages/01-imitate/result.json").stat().st_mtime_ns == first


def test_half_done_with_other_data_is_not_resumed(tmp_path: Path) -> None:
    path = write(tmp_path, REWARD_MODEL.replace('start = "base"\n', ""))
    out = run(path)
    for name in ("manifest.json", "result.json"):
        (out / "stages/01-liked" / name).unlink()
    (tmp_path / "pairs.jsonl").write_text((tmp_path / "pairs.jsonl").read_text().replace("not 3", "never 3"))
    with pytest.raises(
        RunFolderError, match=r"half done, and since it began its data are others\. Put back what it began"
    ):
        resume_run(out, Quiet())
    run(path)  # begins it again


def change_recipe(out: Path) -> None:
    """What runs is edited by hand."""
    path = out / "recipe.json"
    path.write_text(path.read_text().replace('"lr": 9e-06', '"lr": 0.5'))


def change_tokenizer(out: Path) -> None:
    path = out.parent / "tiny/tokenizer_config.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "model_max_length": 77}))


def change_data(out: Path) -> None:
    path = out.parent / "pairs.jsonl"
    path.write_text(path.read_text().replace("not 3", "never 3"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (change_recipe, r"optimizer\.lr 9e-06 -> 0\.5"),
        (change_tokenizer, r"its input 'base, its tokenizer' is another \([0-9a-f]{12} -> [0-9a-f]{12}\)"),
        (change_data, "its data are others"),
    ],
)
def test_a_run_is_not_resumed_with_what_it_did_not_begin_with(
    change: Callable[[Path], None], difference: str, tmp_path: Path
) -> None:
    class Stops(Quiet):
        def step(self, step: int, metrics: object) -> None:
            raise KeyboardInterrupt

    path, out = write(tmp_path, REWARD_MODEL.replace('start = "base"\n', "")), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(read_recipe(path), out, Stops())
    kept = {name: (out / name).read_bytes() for name in ("recipe.json", "metrics.jsonl", "stages/01-liked/begin.json")}
    change(out)
    artefact._digest.cache_clear()  # as in a new process
    with pytest.raises(RunFolderError, match=rf"half done, and since it began.*{difference}.*`tutelage run RECIPE --o"):
        resume_run(out, Quiet())
    assert {name: (out / name).read_bytes() for name in kept if name != "recipe.json"} == {
        name: text for name, text in kept.items() if name != "recipe.json"
    }  # nothing was cut, nothing begun


def test_what_a_run_began_without_knowing_does_not_stop_it() -> None:
    before = Key({"steps": 3, "algorithm.type": "ppo"}, {"base": "a"}, "data", "code")
    assert not Key(
        {"steps": 3, "algorithm.type": "ppo", "new": 1}, {"base": "a", "base, x": "b"}, "data", "other"
    ).contradicts(before)
    for config, inputs, data in (
        ({"steps": 4, "algorithm.type": "ppo"}, {"base": "a"}, "data"),
        ({"steps": 3, "algorithm.type": "ppo", "algorithm.kl": 1}, {"base": "a"}, "data"),
        ({"steps": 3}, {"base": "a"}, "data"),
        ({"steps": 3, "algorithm.type": "ppo"}, {"base": "b"}, "data"),
        ({"steps": 3, "algorithm.type": "ppo"}, {"base": "a"}, "others"),
    ):
        assert Key(config, inputs, data, "code").contradicts(before)
