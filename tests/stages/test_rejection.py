"""Rejection sampling as a stage: what it writes and where that comes from, teachers, mixtures, kills, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.rewards.test_judge import Server
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, FailedSamplesError, GateError, NothingToLearnError
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.pipelines.artefact import digest_of_model
from tutelage.training import Quiet

REJECTION = """
[[stage]]
name = "chosen"
type = "rejection"
environment = "sums"
questions = 24
answers = 4
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }]
choose = "correct"
least = 0.1
portion = 5
sampling = { max_new_tokens = 12, stop = ["a", "e", " "] }
require = ["kept > 0", "none < 1", "success > 0", "reward > 0"]
"""
SFT = """
[[stage]]
name = "imitate"
type = "sft"
source = { type = "stage", stage = "chosen" }
steps = 12
sequences_per_step = 8
optimizer = { lr = 3e-3 }
"""
COMPARE = """
[[stage]]
name = "whose"
type = "compare"
environment = "sums"
contestants = [{ model = "base" }, { model = "imitate" }]
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }]
samples = 4
sampling = { max_new_tokens = 6 }
"""


def write(folder: Path, stages: str, top: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny", max_position_embeddings=512), stages, top))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_chosen_is_written_with_where_it_comes_from_and_imitated(tmp_path: Path) -> None:
    path = write(tmp_path, REJECTION + SFT + COMPARE)
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("4 answers to each of 24 prompts of sums/train, chosen: correct" in line for line in lines)
    assert any("leaves conversations" in line for line in lines)
    assert any("what stage 'chosen' will leave" in line for line in lines)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    samples = {
        (row["prompt_id"], row["index"]): row for row in rows(tmp_path / "run/samples.jsonl") if row["step"] == 0
    }
    written = rows(tmp_path / "run/stages/01-chosen/conversations.jsonl")
    digest = digest_of_model(tmp_path / "tiny")
    for row in written:
        prompt, _, index = row["id"].rpartition("#")
        sample, came = samples[prompt, int(index)], row["from"]
        own = [samples[prompt, i] for i in range(4)]
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert (row["messages"][0]["content"], row["messages"][1]["content"]) == (sample["prompt"], sample["text"])
        assert (came["stage"], came["model"], came["digest"]) == ("chosen", str(tmp_path / "tiny"), digest)
        assert (came["sample"], came["version"], came["reward"]) == (int(index), 0, sample["reward"])
        assert came["rewards"] == sample["rewards"]
        assert came["reward"] >= 0.1
        assert came["success_rate"] == sum(one["reward"] >= 0.1 for one in own) / 4
    ended = {key: row for key, row in samples.items() if row["finish"] == "stop" and "\0" not in row["text"]}
    expected = [key for key, row in ended.items() if row["reward"] >= 0.1 and row["text"].strip()]
    result = json.loads((tmp_path / "run/stages/01-chosen/result.json").read_text())
    assert len({row["id"] for row in written}) == len(written) == result["kept"]
    assert {row["id"] for row in written} == {f"{prompt}#{index}" for prompt, index in expected}
    compared = json.loads((tmp_path / "run/stages/03-whose/result.json").read_text())
    assert compared["contestants"]["imitate"]["beats"]["base"]["function"]["low"] > 0.5
    assert f"{len(written)} of 96 answers kept" in (tmp_path / "run/report.html").read_text()


class Killed(Exception):
    pass


def killed_after(portions: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on a rejection stage dies while it samples after so many portions. Counts the prompts it asks."""
    from tutelage.stages import asking

    asked: list[int] = []
    plain = asking.go_on

    def go_on(engine: Any, tokenizer: Any, beginnings: Any, *arguments: Any, **more: Any) -> Any:
        if len(asked) == portions:
            raise Killed
        asked.append(len(beginnings))
        return plain(engine, tokenizer, beginnings, *arguments, **more)

    monkeypatch.setattr(asking, "go_on", go_on)
    return asked


@pytest.mark.parametrize("end", [30, -1])
def test_a_killed_stage_goes_on_after_its_last_whole_portion(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, REJECTION)
    run_recipe(read_recipe(path), tmp_path / "whole", Quiet())
    with monkeypatch.context() as dying:
        assert killed_after(3, dying) == []
        with pytest.raises(Killed):
            run_recipe(read_recipe(path), tmp_path / "cut", Quiet())
    log = tmp_path / "cut/samples.jsonl"
    whole = log.read_text()
    assert whole.count("\n") == 3 * 5 * 4
    torn = whole.splitlines(keepends=True)
    log.write_text("".join(torn[:59]) + torn[59][:end])  # killed while the last line of the third was written
    asked = killed_after(99, monkeypatch)
    resume_run(tmp_path / "cut", Quiet())
    assert asked == [5, 5, 4]  # the third portion, the fourth and the last
    for name in ("samples.jsonl", "stages/01-chosen/conversations.jsonl", "stages/01-chosen/result.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_difficulties_are_balanced_and_prompts_capped(tmp_path: Path) -> None:
    path = write(tmp_path, REJECTION)
    run_recipe(read_recipe(path, ["chosen.balance=1.0", "chosen.most=1"]), tmp_path / "run", Quiet())
    written = rows(tmp_path / "run/stages/01-chosen/conversations.jsonl")
    result = json.loads((tmp_path / "run/stages/01-chosen/result.json").read_text())
    bins = [min(3, int(4 * row["from"]["success_rate"])) for row in written]
    counts = {bins.count(number) for number in bins}
    assert len(counts) == 1
    assert len(set(bins)) > 1
    assert result["kept"] == len(written) == 24 - result["none"] - result["balanced_out"]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def by(server: Server, more: str = "") -> str:
    teacher = f'by = {{ url = "{server.url}", model = "wise", retries = 0{more} }}'
    own = 'type = "function", function = "tests.pipelines.rewards:share_of_digits"'
    plain = REJECTION.replace(own, 'type = "task"').replace("least = 0.1", teacher)
    plain = plain.replace("questions = 24", "questions = 12").replace("answers = 4", "answers = 2")
    return plain.replace(', stop = ["a", "e", " "]', "")


def sum_of(text: str) -> str:
    found = [int(word) for word in text.replace("?", " ").split() if word.isdigit()]
    return str(sum(found))


def test_a_teachers_answers_are_learned_from(server: Server, tmp_path: Path) -> None:
    """Off-policy distillation: text is exchanged, and wrong answers are left out."""

    def reply(text: str) -> tuple[int, Any]:
        right = sum_of(text)
        said = right if int(right) % 2 else "no idea"
        message = {"content": said, "reasoning_content": " I add. "}
        return 200, {"choices": [{"message": message, "finish_reason": "stop"}]}

    server.reply = reply
    path = write(tmp_path, by(server) + SFT)
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("2 answers by wise to each of 12 prompts" in line for line in lines)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    written = rows(tmp_path / "run/stages/01-chosen/conversations.jsonl")
    samples = rows(tmp_path / "run/samples.jsonl")
    assert len(samples) == len(server.asked) == 24
    assert len({body["seed"] for body in server.asked}) == 24
    assert server.asked[0]["max_tokens"] == 12
    right = {row["prompt_id"] for row in samples if row["reward"] == 1.0}
    assert {row["id"].rpartition("#")[0] for row in written} == right
    assert 0 < len(right) < 12
    for row in written:
        said = row["messages"][-1]["content"]
        assert said == f"<think>\nI add.\n</think>\n\n{sum_of(row['messages'][0]['content'])}"
        assert row["from"]["model"] == "wise"
        assert "digest" not in row["from"]
    assert (tmp_path / "run/stages/02-imitate/model/model.safetensors").is_file()


MIXED = """
[[stage]]
name = "student"
type = "rl"
environment = "sums"
algorithm = { type = "distillation" }
reference = { model = "base" }
steps = 8
prompts_per_step = 2
completions_per_prompt = 2
sampling = { max_new_tokens = 4 }
optimizer = { lr = 3e-3 }
[stage.pretraining]
source = { type = "stage", stage = "chosen" }
loss_on = "assistant"
weight = 1.0
sequences_per_update = 8
"""


def test_chosen_answers_are_learned_beside_the_students_own(tmp_path: Path) -> None:
    """Mixed distillation: the teacher's texts and its judgement of the student's, in the same updates."""
    run_recipe(read_recipe(write(tmp_path, REJECTION + MIXED)), tmp_path / "run", Quiet())
    found = [row for row in rows(tmp_path / "run/metrics.jsonl") if row["stage"] == "student"]
    assert found[-1]["pretraining_loss"] < found[0]["pretraining_loss"] - 0.2
    assert found[-1]["kl"] > found[0]["kl"]  # the texts draw it away from where it began, which is its teacher here
    with pytest.raises(ConfigError, match=r"pretraining\.source: wanted .* a .* stage before this one"):
        plan_recipe(read_recipe(write(tmp_path, MIXED)))


def test_a_teacher_that_fails_or_is_cut_off_is_data_up_to_a_share(server: Server, tmp_path: Path) -> None:
    def reply(text: str) -> tuple[int, Any]:
        right = sum_of(text)
        if int(right) % 3 == 0:
            return 400, {"error": "no"}
        cut = "length" if int(right) % 3 == 1 else "stop"
        return 200, {"choices": [{"message": {"content": right}, "finish_reason": cut}]}

    server.reply = reply
    path = write(tmp_path, by(server, ", thinking = false"))
    with pytest.raises(FailedSamplesError, match=r"more than max_failed_share = 0\.1; the first: .*status 400"):
        run_recipe(read_recipe(path, ["chosen.max_failed_share=0.1"]), tmp_path / "stops", Quiet())
    run_recipe(read_recipe(path, ["chosen.max_failed_share=1.0"]), tmp_path / "run", Quiet())
    samples = rows(tmp_path / "run/samples.jsonl")
    written = rows(tmp_path / "run/stages/01-chosen/conversations.jsonl")
    assert {int(row["messages"][-1]["content"]) % 3 for row in written} == {2}
    assert all("refused with status 400" in row["failure"] for row in samples if int(sum_of(row["prompt"])) % 3 == 0)
    assert all((row["reward"] is None) == (row["failure"] is not None) for row in samples)


def test_a_mixture_holds_what_a_stage_left_beside_other_data(tmp_path: Path) -> None:
    more = [{"question": f"{i} * 7?", "answer": str(7 * i)} for i in range(10)]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, more)) + "\n")
    parts = (
        'parts = [{ source = { type = "stage", stage = "chosen" }, weight = 3 }, '
        f'{{ source = {{ type = "jsonl", path = "{tmp_path}/more.jsonl" }}, weight = 1 }}]'
    )
    mixed = SFT.replace('{ type = "stage", stage = "chosen" }', f'{{ type = "mixture", rows = 20, {parts} }}')
    path = write(tmp_path, REJECTION + mixed)
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("what stage 'chosen' will leave, and others" in line for line in lines)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    again = Quiet()
    notes: list[str] = []
    again.note = notes.append  # type: ignore[method-assign]
    run_recipe(read_recipe(path), tmp_path / "run", again)
    assert sum("finished before" in note for note in notes) == 2
    (tmp_path / "more.jsonl").write_text(json.dumps(more[0]) + "\n")
    notes.clear()
    run_recipe(read_recipe(path), tmp_path / "run", again)
    assert any("imitate: runs again: its data are others" in note for note in notes)
    with pytest.raises(ConfigError, match=r"imitate\.source\.parts\[0\]\.source: wanted .* did you mean 'chosen'"):
        plan_recipe(read_recipe(path, ["imitate.source.parts=[{source={type='stage',stage='chose'}}]"]))


def test_mistakes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, REJECTION + SFT)
    with pytest.raises(ConfigError, match=r"imitate\.source\.least: 'chosen' has chosen already"):
        plan_recipe(read_recipe(path, ["imitate.source.least=0.5"]))
    with pytest.raises(NothingToLearnError, match=r"none of 96 answers was chosen by \['correct'\]"):
        run_recipe(read_recipe(path, ["chosen.least=9"]), tmp_path / "none", Quiet())
    with pytest.raises(GateError, match=r"'kept > 1' is not met"):
        run_recipe(read_recipe(path, ["chosen.require=kept > 1"]), tmp_path / "gate", Quiet())
    label = SFT.replace('"sft"', '"preference"').replace("sequences_per_step", "prompts_per_step")
    with pytest.raises(ConfigError, match=r"judged answers; 'chosen' \(rejection\) leaves: conversations"):
        read_recipe(write(tmp_path / "other", REJECTION + label))
