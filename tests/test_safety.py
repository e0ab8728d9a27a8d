"""Nothing that comes from elsewhere is run (RELIABILITY, 11 and 30): not by the source, not by malicious files."""

from __future__ import annotations

import ast
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.pipelines.parts import tiny_model_folder
from tutelage.errors import ModelError
from tutelage.models import load_policy, load_tokenizer
from tutelage.models.loading import INDEX, WEIGHTS, describe, load_module, load_scorer

SOURCE = Path(__file__).parents[1] / "src" / "tutelage"
# Two pipes between a process of ours and its own child, which no file and no network reach.
OWN_PIPES = {"rewards/worker.py", "environments/gym_splits.py"}
# What is there to run model-written code, within the sandbox's walls; the launcher reads its orders from its own host.
SANDBOX = {("sandbox/start.py", "compile"), ("sandbox/start.py", "exec"), ("sandbox/launcher.py", "marshal.load")}
RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "torch.load", "torch.hub.load", "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "dill.load",
    "dill.loads", "cloudpickle.load", "cloudpickle.loads", "np.load", "numpy.load", "pd.read_pickle",
    "pandas.read_pickle", "runpy.run_path", "runpy.run_module", "importlib.util.spec_from_file_location",
}  # fmt: skip
READS_ANY_YAML = {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"}
UNPACKS = {"extract", "extractall", "unpack_archive"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the package: its file, its dotted name, and the call."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(SOURCE)), ast.unparse(node.func), node


CALLS = list(calls())


def test_the_source_runs_nothing_that_comes_from_elsewhere() -> None:
    found = {(file, name) for file, name, _ in CALLS if name in RUNS_CODE}
    assert found == {*((file, "pickle.loads") for file in OWN_PIPES), *SANDBOX}
    assert not [(file, name) for file, name, _ in CALLS if name in READS_ANY_YAML]
    assert not [
        (file, name) for file, name, _ in CALLS if name.rpartition(".")[2] in UNPACKS
    ]  # members are read by name


def test_remote_code_is_never_trusted_and_no_shell_is_asked() -> None:
    keywords = [(file, name, word) for file, name, call in CALLS for word in call.keywords]
    trusted = [(file, word.value) for file, _, word in keywords if word.arg == "trust_remote_code"]
    assert len(trusted) >= 4
    assert all(isinstance(value, ast.Constant) and value.value is False for _, value in trusted)
    for forbidden in ("shell", "allow_pickle"):
        assert not [(file, name) for file, name, word in keywords if word.arg == forbidden]
    assert not [(f, w) for f, _, w in keywords if w.arg == "weights_only" and ast.unparse(w.value) != "True"]
    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM", "AutoModelForSequenceClassification"):
        for file, called, call in CALLS:
            if called == f"{name}.from_pretrained" and file != "models/convert.py":  # a GGUF file holds no code
                assert "trust_remote_code" in {word.arg for word in call.keywords}, file


def test_the_check_of_the_source_can_fail() -> None:
    node = next(node for node in ast.walk(ast.parse("import torch\ntorch.load('x')")) if isinstance(node, ast.Call))
    assert ast.unparse(node.func) in RUNS_CODE
    assert len(CALLS) > 3000


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that shows if it was opened, in each way that it may be packed."""
    trace = tmp_path / "ran"
    yield pickle.dumps(Trap(trace))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Trap(trace)))  # the trap works
    assert trace.exists()


PICKLES = ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "weights.ckpt", "model.pkl"]
BESIDE = ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "adapter_model.bin"]


@pytest.mark.parametrize("name", PICKLES)
def test_pickled_weights_are_refused_with_the_remedy(trap: bytes, name: str, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(trap)
    for opens in (load_module, load_scorer):
        with pytest.raises(ModelError, match=r"pickled \(.*opening a pickle runs code; convert them .*save_pretrained"):
            opens(folder, torch.float32)


def test_pickles_beside_the_weights_are_never_opened(trap: bytes, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    for name in [*PICKLES, *BESIDE]:
        (folder / name).write_bytes(trap)
    describe(folder)
    load_tokenizer(folder)
    load_policy(folder, torch.float32, torch.device("cpu"))


def test_a_pickle_under_the_name_of_safetensors_is_refused(trap: bytes, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    (folder / WEIGHTS).write_bytes(trap)
    with pytest.raises(ModelError, match="the weights cannot be loaded"):
        load_module(folder, torch.float32)


@pytest.mark.parametrize("shard", ["../outside.bin", "inside.bin", "../outside.safetensors", "pytorch_model.bin"])
def test_an_index_of_other_files_opens_none(trap: bytes, shard: str, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    (folder / shard).write_bytes(trap)
    if shard.endswith(".safetensors"):
        save_file(weights, folder / shard, metadata={"format": "pt"})  # whole, but not of this folder
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}))
    with pytest.raises(ModelError, match=r"names '.*', which is no safetensors file of this folder"):
        load_module(folder, torch.float32)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_model_folder_is_never_run(file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    trace = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Any: pass\n")
    config = json.loads((folder / file).read_text())
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "AutoModel"), "evil.Any")
    for strange in (False, True):
        if strange:
            config["model_type" if file == "config.json" else "tokenizer_class"] = "evil"
        (folder / file).write_text(json.dumps(config))
        for opens in (load_tokenizer, describe, lambda where: load_module(where, torch.float32)):
            with suppress(ModelError) if strange else nullcontext():
                opens(folder)
    assert not trace.exists()


@pytest.mark.parametrize("member", ["../../escaped.txt", "/tmp/tutelage-escaped.txt", "link"])
def test_archives_leave_nothing_outside(member: str, tmp_path: Path) -> None:
    """Data sets are made of archives' members by name; whatever else an archive holds is not unpacked."""
    from tutelage.data import human_sentiment, shakespeare

    tar, wheel = tmp_path / "evil.tar.gz", tmp_path / "evil.whl"
    with tarfile.open(tar, "w:gz") as archive:
        info = tarfile.TarInfo(member)
        if member == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        info.size = 0 if member == "link" else 4
        archive.addfile(info, io.BytesIO(b"evil"))
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(member, "evil")
    before = set(tmp_path.parent.iterdir())
    for make in (human_sentiment.make, shakespeare.make):
        with pytest.raises(Exception):  # noqa: B017, PT011 - they are not the archives that are meant
            make([tar, wheel], tmp_path / "made")
    assert set(tmp_path.parent.iterdir()) == before
    assert not Path("/tmp/tutelage-escaped.txt").exists()
    assert not any("escaped" in path.name for path in tmp_path.rglob("*"))
