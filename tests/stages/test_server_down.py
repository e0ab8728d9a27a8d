"""A server that is down all along ends a run with the cause; until then each failure is its own sample's (case 25)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.pipelines.parts import EVALUATE, RL
from tests.rewards.test_server_faults import Server, hang, reply
from tests.stages.test_rejection import REJECTION, rows, write
from tutelage.config import read_recipe
from tutelage.errors import FailedSamplesError
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet

FUNCTION = '{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }'


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def judged(server: Server, stage: str) -> str:
    table = f'{{ type = "judge", url = "{server.url}", model = "wise", retries = 1, request_timeout = 0.2 }}'
    assert FUNCTION in stage
    return stage.replace(FUNCTION, table)


@pytest.mark.parametrize(
    ("stage", "fault", "cause"),
    [
        (RL, hang, r"samples could not be rewarded.*judge: .*failed 2 times \(ReadTimeout"),
        (RL, reply(401, b"no such key"), r"judge: .* refused with status 401: no such key"),
        (EVALUATE, reply(500), r"of 40 answers could not be judged.*; the first: judge: .*status 500: busy"),
    ],
    ids=["hangs", "refuses", "fails"],
)
def test_a_judge_that_is_down_ends_the_run_with_the_cause(
    server: Server, stage: str, fault: object, cause: str, tmp_path: Path
) -> None:
    server.script = list(repeat(fault, 10_000))  # type: ignore[arg-type]
    path = write(tmp_path, judged(server, stage))
    with pytest.raises(FailedSamplesError, match=cause):
        run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    samples = rows(tmp_path / "run/samples.jsonl")
    assert samples
    for row in samples:  # what says nothing has earned nothing, with or without a judge
        assert row["reward"] == 0.0 if row["failure"] is None else row["failure"].startswith("judge: ")
    assert sum(row["failure"] is not None for row in samples) > len(samples) / 2


def test_a_teacher_that_is_down_is_not_asked_about_everything_and_the_run_goes_on_once_it_is_back(
    server: Server, tmp_path: Path
) -> None:
    teacher = f'by = {{ url = "{server.url}", model = "wise", retries = 1, request_timeout = 10, parallel = 2 }}'
    stage = REJECTION.replace("least = 0.1", teacher).replace(', stop = ["a", "e", " "]', "")
    answer = json.dumps({"choices": [{"message": {"content": "12"}}]}).encode()
    server.script = [reply(200, answer)] * 20 + list(repeat(reply(503), 10_000))  # one portion: 5 prompts x 4
    path = write(tmp_path, stage)
    with pytest.raises(FailedSamplesError, match=r"answers could not be judged.*failed 2 times \(status 503: busy\)"):
        run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    assert len(server.asked) <= 20 + 2 * (2 + 2)  # two failures in a row end it, and two more may be under way
    assert len(rows(tmp_path / "run/samples.jsonl")) == 20  # the portion that failed is not kept
    before = len(server.asked)
    server.script = list(repeat(reply(200, answer), 10_000))
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    assert len(server.asked) == before + 24 * 4 - 20
    assert len(rows(tmp_path / "run/samples.jsonl")) == 24 * 4
