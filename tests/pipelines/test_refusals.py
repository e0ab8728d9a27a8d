"""Bad input is refused before weights are loaded, naming file, line or key, and the remedy; and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipelines.parts import EVALUATE, RL, SFT, recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, DataError, ModelError, RunFolderError, TutelageError
from tutelage.models import policy as policy_module
from tutelage.pipelines import RunFolder, plan_recipe, resume_run, run_recipe
from tutelage.training import Quiet
from tutelage.training.progress import Progress


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a weight fails the test."""

    def loaded(*_: object) -> None:
        raise AssertionError("weights were loaded before the mistake was found")

    monkeypatch.setattr(policy_module, "load_module", loaded)


def write(folder: Path, stages: str = SFT + RL + EVALUATE, top: str = "", model: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    where = Path(model) if model else tiny_model_folder(folder / "tiny")
    path.write_text(recipe_text(where, stages, top))
    return path


def run(path: Path, *overrides: str) -> None:
    run_recipe(read_recipe(path, overrides), path.parent / "run", Quiet())


# --set ..., the error, and what its message must say: place and remedy.
MISTAKES = [
    (["reinforce.stepz=3"], ConfigError, r"stage\[1\]\.rl: unknown key 'stepz': did you mean 'steps'\?"),
    (["reinforce.steps=many"], ConfigError, r"stage\[1\]\.rl\.steps: .*valid integer.*\(given: 'many'\)"),
    (["reinforce.steps=0"], ConfigError, r"stage\[1\]\.rl\.steps: .*greater than 0 \(given: 0\)"),
    (["reinforce.sampling.top_q=1"], ConfigError, r"sampling: unknown key 'top_q': did you mean 'top_[kp]'\?"),
    (["reinforce.optimizer.lr=nan"], ConfigError, r"stage\[1\]\.rl\.optimizer\.lr: "),
    (["reinfroce.steps=3"], ConfigError, r"'reinfroce' is neither .* did you mean 'reinforce.key'\?"),
    (["seeed=3"], ConfigError, r"'seeed' is neither .* did you mean 'seed'\?"),
    (["reinforce.steps"], ConfigError, r"--set reinforce.steps: a value is missing; write it as key=value"),
    (["name=Not A Name"], ConfigError, r"name: "),
    (["reinforce.name=imitate"], ConfigError, r"stage\[1\]\.name: 'imitate' is already the name of another stage"),
    (["judge.environment=sum"], ConfigError, r"stage\[2\]\.environment: no \[environments\.sum\]: did you mean 'sums'"),
    (
        ["environments.sums.type=arithmetics"],
        ConfigError,
        r"environments\.sums\.type: unknown 'arithmetics'.*arithmetic",
    ),
    (
        ["environments.sums.maximun=3"],
        ConfigError,
        r"environments\.sums: unknown key 'maximun': did you mean 'maximum'",
    ),
    (["environments.sums.train_questions=99999"], ConfigError, r"environments\.sums: .*widen"),
    (['reinforce.algorithm={type="grop"}'], ConfigError, r"reinforce\.algorithm\.type: unknown 'grop'.*'grpo'"),
    (['reinforce.algorithm={type="grpo", beta=1}'], ConfigError, r"reinforce\.algorithm: unknown key 'beta'"),
    (
        ['reinforce.algorithm={type="no.such:Thing"}'],
        ConfigError,
        r"reinforce\.algorithm\.type: cannot import 'no\.such'",
    ),
    (
        ['reinforce.algorithm={type="json:loads"}'],
        ConfigError,
        r"'json:loads' is not a subclass of tutelage.*Algorithm",
    ),
    (
        ['reinforce.algorithm={type="tests.pipelines.broken:Thing"}'],
        ConfigError,
        r"'tests\.pipelines\.broken' fails when it is imported: SyntaxError",
    ),
    (
        ["reinforce.completions_per_prompt=1"],
        ConfigError,
        r"reinforce\.completions_per_prompt: 1 is too few: 'grpo' compares",
    ),
    (["reinforce.sampling.temperature=0.0"], ConfigError, r"reinforce\.sampling\.temperature: 0 samples the same"),
    (["reinforce.updates_per_epoch=7"], ConfigError, r"reinforce\.updates_per_epoch: 7 updates cannot be cut out of 6"),
    (
        ["reinforce.algorithm.decay=0.9"],
        ConfigError,
        r"reinforce\.algorithm: unknown key 'decay'",  # a critic's lambda without a critic
    ),
    (
        ['reinforce.algorithm={type="trpo", baseline="group", decay=0.9}'],
        ConfigError,
        r"reinforce\.algorithm: .*decay: baseline = 'group' has no critic",
    ),
    (
        ['reinforce.algorithm={type="gspo"}', 'reinforce.correction={kind="truncate"}'],
        ConfigError,
        r"reinforce\.correction: 'gspo' weighs whole answers.*ratio_to = 'sampler'",
    ),
    (
        ['reinforce.algorithm={type="dapo"}', 'reinforce.rewards=[{type="task", weight=0.0}]'],
        ConfigError,
        r"reinforce\.rewards: every weight is 0, so the reward never varies",
    ),
    (["reinforce.rewards=[]"], ConfigError, r"reinforce\.rewards: give at least one"),
    (['reinforce.rewards=[{type="tsak"}]'], ConfigError, r"reinforce\.rewards\[0\]\.type: unknown 'tsak'.*'task'"),
    (
        ['reinforce.rewards=[{type="function", function="tests.pipelines.rewards:share_of_digit"}]'],
        ConfigError,
        r"reinforce\.rewards\[0\].*share_of_digit.*did you mean 'share_of_digits'",
    ),
    (["engine=vllm"], ConfigError, r"engine: .*'auto', 'native' or 'transformers'"),
    (["model=smollm2-135m-instuct"], ModelError, r"smollm2-135m-instuct.*did you mean 'smollm2-135m-instruct'"),
    (["model=tests"], ModelError, r"tests: not a model folder; it must hold config.json"),
    (
        ["reinforce.sampling.max_new_tokens=250"],
        DataError,
        r"reinforce: prompt .* runs over the model's context of 256; .* or set max_new_tokens to \d+ or less",
    ),
    (
        ["judge.sampling.max_new_tokens=250"],
        DataError,
        r"judge: prompt .* runs over the model's context of 256; .* or set max_new_tokens to \d+ or less",
    ),
    (
        ["reinforce.tokens_per_microbatch=50"],
        DataError,
        r"reinforce\.tokens_per_microbatch: 50 .*set it to \d+ or more",
    ),
    (
        ["imitate.tokens_per_microbatch=20"],
        DataError,
        r"imitate\.source: conversation .* has (\d+) tokens.* set tokens_per_microbatch to \1 or more",
    ),
    (['imitate.source={type="environment", environment="sum"}'], ConfigError, r"imitate\.source: wanted .*\['sums'\]"),
    (['imitate.source={type="jsonl", path="absent.jsonl"}'], TutelageError, r"absent\.jsonl"),
]


@pytest.mark.parametrize(("overrides", "error", "message"), MISTAKES, ids=[m[0][0][:45] for m in MISTAKES])
@pytest.mark.usefixtures("no_weights")
def test_a_mistake_is_refused_with_its_place_and_remedy(
    overrides: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path)
    with pytest.raises(error, match=message):
        plan_recipe(read_recipe(path, overrides))
    with pytest.raises(error, match=message):
        run(path, *overrides)
    assert not (path.parent / "run/stages").exists()  # nothing was begun


def test_the_recipe_of_these_tests_is_right(tmp_path: Path) -> None:
    assert any("reference model: yes" in line for line in plan_recipe(read_recipe(write(tmp_path))).lines())


@pytest.mark.usefixtures("no_weights")
def test_recipe_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such recipe; `tutelage recipes` lists"):
        read_recipe(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "x"\nmodel = \n')
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML: .*line 2"):
        read_recipe(broken)
    broken.write_text('name = "x"\nmodel = "y"\n')
    with pytest.raises(ConfigError, match=r"stage: a recipe needs at least one \[\[stage\]\]"):
        read_recipe(broken)
    broken.write_text("[[stage]]\ntype = 'rll'\nname = 'x'\n")
    with pytest.raises(ConfigError, match=r"stage\[0\]: .*'rll'.*'evaluate', .*'sft', .*'rl'"):
        read_recipe(broken)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"messages": [{"role": "user", "content": "a"}\n', r"talks\.jsonl:1"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', r"talks\.jsonl:2.*completion"),
        ("", r"talks\.jsonl.*(empty|no )"),
    ],
    ids=["malformed", "missing-field", "empty"],
)
def test_data_files_are_refused_by_line(content: str, message: str, tmp_path: Path) -> None:
    data = tmp_path / "talks.jsonl"
    data.write_text(content)
    path = write(tmp_path)
    with pytest.raises(DataError, match=message):
        run(path, f'imitate.source={{type="jsonl", path="{data}"}}')


def test_a_run_folder_is_held_by_one_process_and_holds_one_run(tmp_path: Path) -> None:
    path = write(tmp_path, EVALUATE)
    with RunFolder(path.parent / "run"), pytest.raises(RunFolderError, match=rf"in use by process {os.getpid()}"):
        run(path)
    run(path)  # the lock went with its holder
    with pytest.raises(RunFolderError, match=r"holds a run of 'test', and this recipe is 'another'; choose another"):
        run(path, "name=another")
    with pytest.raises(RunFolderError, match="no run lies here"):
        resume_run(tmp_path / "elsewhere", Quiet())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="choose another --out"):
        run_recipe(read_recipe(write(tmp_path)), tmp_path / "file" / "run", Quiet())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A real refusal by the operating system in the midst of writing, as from a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FillsTheDisk(Quiet):
    """Lets no file grow beyond a few kilobytes from a step on."""

    def __init__(self, at: int) -> None:
        self.at, self.limit = at, files_of_at_most(20_000)

    def step(self, step: int, metrics: object) -> None:
        if step == self.at:
            self.limit.__enter__()


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    path, disk = write(tmp_path, SFT), FillsTheDisk(at=6)
    folder = path.parent / "run"
    try:
        with pytest.raises(
            RunFolderError, match=r"step-000006: the checkpoint could not be written.*`tutelage resume`"
        ):
            run_recipe(read_recipe(path), folder, disk)
    finally:
        disk.limit.__exit__(None, None, None)
    kept = sorted(item.name for item in (folder / "stages/01-imitate/checkpoints").iterdir())
    assert kept == ["step-000002", "step-000004"]
    resume_run(folder, Quiet())
    assert json.loads((folder / "stages/01-imitate/result.json").read_text())["steps"] == 9


class Notes(Quiet):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


@pytest.mark.parametrize("harm", ["flip", "truncate", "manifest"])
def test_a_damaged_checkpoint_is_refused_by_its_hash_and_the_one_before_serves(harm: str, tmp_path: Path) -> None:
    path = write(tmp_path, SFT)
    run(path)
    whole = (path.parent / "run/stages/01-imitate/model/model.safetensors").read_bytes()
    stage = path.parent / "run/stages/01-imitate"
    (stage / "result.json").unlink()
    newest = stage / "checkpoints/step-000009"
    weights = newest / "masters.safetensors"
    if harm == "flip":
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    elif harm == "truncate":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        (newest / "manifest.json").unlink()
    notes: Progress = Notes()
    resume_run(path.parent / "run", notes)
    assert any("step-000009 refused" in line for line in notes.heard)  # type: ignore[attr-defined]
    assert any("goes on after step 8" in line for line in notes.heard)  # type: ignore[attr-defined]
    assert (stage / "model/model.safetensors").read_bytes() == whole


def test_checkpoints_hold_no_pickle(tmp_path: Path) -> None:
    path = write(tmp_path, SFT)
    run(path)
    names = {item.name for item in (path.parent / "run/stages/01-imitate/checkpoints/step-000009").iterdir()}
    assert names == {"masters.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


def test_the_command_line_prints_a_refusal_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tutelage", "check", str(write(tmp_path)), "--set", "reinforce.stepz=3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'steps'?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
