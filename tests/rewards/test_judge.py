"""A judge behind a server: grades, comparisons in both orders, broken servers, nonsense, answers that say nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tutelage.errors import ConfigError
from tutelage.rewards import JudgeReward, RewardSuite, build_reward
from tutelage.rewards.base import Fault, outcomes
from tutelage.rewards.judging import says_nothing
from tutelage.types import Group, Message, Prompt, Sample

PROMPT = Prompt("p", messages=(Message("user", "Name a prime {number}."),))


class Server:
    """An OpenAI-compatible server in a thread. `reply` makes (status, answer or whole body) of a request's text."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[str], tuple[int, Any]] = lambda text: (200, "[[5]]")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.headers.append(dict(self.headers))
                status, answer = outer.reply(body["messages"][-1]["content"])
                if status is None:
                    self.connection.close()
                    return
                sent = {"choices": [{"message": {"content": answer}}]} if isinstance(answer, str) else answer
                data = json.dumps(sent).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()


def samples(*texts: str) -> list[Sample]:
    return [Sample("p", i, [1], [0.0], text, "stop", 0) for i, text in enumerate(texts)]


def judge(server: Server, **fields: Any) -> JudgeReward:
    return JudgeReward(url=server.url, model="wise", **{"retries": 2, **fields})


def test_a_grade_is_a_share_of_the_scale(server: Server) -> None:
    server.reply = lambda text: (200, "Hm, [[3]]? No: [[7]]" if "seven" in text else "[[1]]")
    reward = judge(server, scale=(1, 7), rubric="It is a prime.")
    assert outcomes(reward, PROMPT, samples("seven", "one {x}")) == [1.0, 0.0]
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"]) == ("wise", 0.0)
    text = asked["messages"][0]["content"]
    assert "user: Name a prime {number}." in text
    assert "What counts: It is a prime." in text


def test_a_judge_that_only_sees_sides_makes_every_comparison_a_tie(server: Server) -> None:
    server.reply = lambda text: (200, "The first one: [[A]]")
    assert outcomes(judge(server, mode="pairs"), PROMPT, samples("x1", "x2", "x3")) == [0.5, 0.5, 0.5]
    assert len(server.asked) == 6  # three comparisons in both orders


def test_the_better_answer_wins_on_either_side(server: Server) -> None:
    def reply(text: str) -> tuple[int, Any]:
        first, second = text.split("----- answer A\n")[1].split("\n----- answer B\n")
        return 200, "[[A]]" if int(first) > int(second.split("\n")[0]) else "[[B]]"

    server.reply = reply
    assert outcomes(judge(server, mode="pairs"), PROMPT, samples("3", "1", "2")) == [1.0, 0.0, 0.5]
    assert outcomes(judge(server, mode="pairs"), PROMPT, samples("3", "4")) == [0.0, 1.0]


def test_what_may_pass_is_tried_again(server: Server) -> None:
    left = [(503, "busy"), (429, "slow down"), (200, "[[10]]")]
    server.reply = lambda text: left.pop(0)
    assert outcomes(judge(server), PROMPT, samples("a")) == [1.0]
    left[:] = [(None, ""), (200, "[[10]]")]  # a broken connection
    assert outcomes(judge(server), PROMPT, samples("a")) == [1.0]


def test_what_will_not_pass_is_the_samples_fault_and_asked_once(server: Server) -> None:
    server.reply = lambda text: (401, {"error": "no key"}) if "bad" in text else (200, "[[10]]")
    good, bad = outcomes(judge(server), PROMPT, samples("good", "bad"))
    assert good == 1.0
    assert isinstance(bad, Fault)
    assert "refused with status 401" in bad.reason
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I like it.", "gave no grade from 1 to 10: 'I like it.'"),
        ("[[11]]", "gave no grade from 1 to 10"),
        ({"choices": []}, "sent no chat completion"),
        ({"choices": [{"message": {"content": None}}]}, "sent an answer without text"),
    ],
)
def test_nonsense_is_a_fault_and_never_a_zero(server: Server, answer: Any, reason: str) -> None:
    server.reply = lambda text: (200, answer)
    (fault,) = outcomes(judge(server), PROMPT, samples("a"))
    assert isinstance(fault, Fault)
    assert reason in fault.reason


def test_a_server_that_is_down_is_told_in_words() -> None:
    reward = JudgeReward(url="http://127.0.0.1:9/v1", model="wise", retries=1)
    (fault,) = outcomes(reward, PROMPT, samples("a"))
    assert isinstance(fault, Fault)
    assert "failed 2 times" in fault.reason
    assert "is the server up, and the url right?" in fault.reason


def test_the_key_comes_from_the_environment_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    outcomes(judge(server, key_variable="JUDGE_KEY"), PROMPT, samples("a"))
    assert server.headers[0]["Authorization"] == "Bearer secret"
    with pytest.raises(ConfigError, match="the name of an environment variable, not the key itself"):
        build_reward({"type": "judge", "url": server.url, "model": "m", "key_variable": "sk-123"}, "rewards[0]")


@pytest.mark.parametrize(
    "text", ["", " ", ":", ".", "Solution", "solution:", "Thought process:", "**Solution**", "---"]
)
def test_answers_that_say_nothing_get_nothing_and_are_not_shown(server: Server, text: str) -> None:
    """The master keys that open judges (2507.08794), even where this judge would reward them."""
    server.reply = lambda _: (200, "[[10]]")
    assert says_nothing(text)
    assert outcomes(judge(server), PROMPT, samples(text, "5")) == [0.0, 1.0]
    assert len(server.asked) == 1
    assert outcomes(judge(server, mode="pairs"), PROMPT, samples(text, "5")) == [0.0, 1.0]
    assert len(server.asked) == 1


def test_words_are_not_taken_for_nothing() -> None:
    assert not any(map(says_nothing, ("5", "No.", "Solution: 5", "Thought process: I add.", "ja")))


def test_in_a_suite_the_workers_ask(server: Server) -> None:
    server.reply = lambda text: (200, "[[10]]" if "seven" in text else "[[1]]")
    group = Group(PROMPT, (1,), samples("seven", "eight"))
    with RewardSuite((judge(server),), timeout=20.0, workers=1) as suite:
        suite.score([group])
    assert [sample.reward for sample in group.samples] == [1.0, 0.0]


def test_contradictions_are_refused(server: Server) -> None:
    table = {"type": "judge", "url": server.url, "model": "m"}
    with pytest.raises(ConfigError, match=r"scale: is for mode = 'grade'"):
        build_reward({**table, "mode": "pairs", "scale": [1, 5]}, "rewards[0]")
    with pytest.raises(ConfigError, match=r"scale: must be \[lowest, highest\]"):
        build_reward({**table, "scale": [5, 5]}, "rewards[0]")
