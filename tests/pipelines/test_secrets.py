"""No secret gets into a run folder: neither the key that opens a server, nor the environment (RELIABILITY, 30)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.parts import EVALUATE
from tests.rewards.test_server_faults import Server, reply
from tests.stages.test_rejection import write
from tutelage.config import read_recipe
from tutelage.errors import ConfigError
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet

KEY, OTHER = "sk-planted-0123456789", "another-planted-secret"
FUNCTION = '{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }'


def holding(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_a_whole_run_folder_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OTHER)
    server = Server()
    echo = json.dumps({"choices": [{"message": {"content": f"your key is {KEY}, so [[7]]"}}]}).encode()
    server.script = [reply(401, f"Incorrect API key: {KEY}".encode()), reply(200, echo)] * 500
    table = f'{{ type = "judge", url = "{server.url}", model = "m", key_variable = "JUDGE_KEY", retries = 0 }}'
    path = write(tmp_path, EVALUATE.replace(FUNCTION, table))
    run_recipe(read_recipe(path, ["judge.max_failed_share=1.0"]), tmp_path / "run", Quiet())
    server.close()
    assert server.asked
    failures = [json.loads(line)["failure"] for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert any("Incorrect API key: (the key)" in (failure or "") for failure in failures)
    assert (tmp_path / "run/report.html").is_file()
    for secret in (KEY, OTHER):
        assert not holding(tmp_path / "run", secret)
    assert holding(tmp_path / "run", "JUDGE_KEY")  # its name may be there, and the search finds what is


def test_a_key_in_a_recipe_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    for table in (
        f'{{ type = "judge", url = "http://127.0.0.1:9/v1", model = "m", key_variable = "{KEY}" }}',
        f'{{ type = "judge", url = "http://me:{KEY}@127.0.0.1:9/v1", model = "m" }}',
        f'{{ type = "judge", url = "http://127.0.0.1:9/v1", model = "m", api_key = "{KEY}" }}',
    ):
        path = write(tmp_path, EVALUATE.replace(FUNCTION, table))
        with pytest.raises(ConfigError) as refused:
            run_recipe(read_recipe(path), tmp_path / "run", Quiet())
        assert KEY not in str(refused.value)
        assert not (tmp_path / "run").exists()
