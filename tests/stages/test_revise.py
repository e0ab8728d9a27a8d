"""Answers that are criticised and revised: what is asked, what is kept, what is learned of it; killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import Principle, read_recipe
from tutelage.data.answers import render_answer
from tutelage.data.packing import Row
from tutelage.engines import Completion, Request, ScriptedEngine
from tutelage.errors import ConfigError, DataError, GateError, ModelError, NothingToLearnError
from tutelage.models import load_policy
from tutelage.models.loading import save
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.stages import revise
from tutelage.stages.preference_task import score_answers
from tutelage.training import Quiet
from tutelage.types import Message, Prompt

REVISE = """
[[stage]]
name = "better"
type = "revise"
environment = "sums"
questions = 8
rounds = 2
principles = [
    { critique = "CRITIQUE one", revision = "REVISE one" },
    { critique = "CRITIQUE two", revision = "REVISE two" },
    "Be brief {x}.",
]
sampling = { max_new_tokens = 20 }
"""
SFT = """
[[stage]]
name = "imitate"
type = "sft"
source = { type = "stage", stage = "better" }
epochs = 4
sequences_per_step = 8
optimizer = { lr = 3e-3 }
"""
DPO = """
[[stage]]
name = "prefer"
type = "preference"
start = "base"
source = { type = "stage", stage = "better" }
epochs = 4
prompts_per_step = 8
optimizer = { lr = 1e-3 }
"""


class Notes(Quiet):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def write(folder: Path, stages: str = REVISE) -> Path:
    folder.mkdir(exist_ok=True)
    model = tiny_model_folder(folder / "tiny", max_position_embeddings=2048)
    (folder / "recipe.toml").write_text(recipe_text(model, stages))
    return folder / "recipe.toml"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def says(text: str) -> Completion:
    tokens = tiny_tokenizer().encode(text, add_special_tokens=False)
    return Completion([*tokens, 2], [0.0] * (len(tokens) + 1), "stop", 0)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], list[str]]:
    """Has the stage sample from a script: from the text that is asked to the text that is answered."""

    def install(script: Callable[[str], str]) -> list[str]:
        asked: list[str] = []

        def complete(request: Request, _: int) -> Completion:
            asked.append(tiny_tokenizer().decode(request.tokens))
            return says(script(asked[-1]))

        monkeypatch.setattr(revise, "build_engine", lambda wish, policy: ScriptedEngine(complete))
        return asked

    return install


def counting(text: str) -> str:
    """Answers "draft 0", criticises a draft by its number, and revises draft n to draft n + 1."""
    last = text.split("<|im_start|>")[-2]
    drafts = [turn for turn in text.split("<|im_start|>") if turn.startswith("assistant\ndraft")]
    number = int(drafts[-1].split("draft ")[1][0]) if drafts else 0
    if "CRITIQUE" in last or "Criticise" in last:
        return f"Bad {number}"
    return f"draft {number + ('REVISE' in last or 'Rewrite' in last)}"


def test_each_answer_is_criticised_by_a_principle_and_revised(scripted: Any, tmp_path: Path) -> None:
    asked = scripted(counting)
    recipe = read_recipe(write(tmp_path))
    (line,) = [line for line in plan_recipe(recipe).lines() if "better" in line]
    assert line.endswith("answers to 8 prompts of sums/train, criticised by 3 principles and revised, 2 rounds")
    run_recipe(recipe, tmp_path / "run", Quiet())
    rows = lines(tmp_path / "run/stages/01-better/judged.jsonl")
    assert [(row["answers"], row["scores"]) for row in rows] == [
        (["draft 0", "draft 1", "draft 2"], [0.0, 0.5, 1.0])
    ] * 8
    samples = lines(tmp_path / "run/samples.jsonl")
    for number, row in enumerate(rows):
        own = samples[5 * number : 5 * number + 5]
        assert [(sample["index"], sample["text"]) for sample in own] == [
            (0, "draft 0"), (1, "Bad 0"), (2, "draft 1"), (3, "Bad 1"), (4, "draft 2"),
        ]  # fmt: skip
        assert {sample["prompt_id"] for sample in own} == {row["id"]}
    # What was asked: 8 prompts, and in each round 8 critiques and 8 revisions, each a conversation of its own.
    assert len(asked) == 8 * 5
    principles = recipe.stage[0].principles  # type: ignore[union-attr]
    drawn: list[int] = []
    for number, row in enumerate(rows):
        for turn in range(2):
            critique, revision = (asked[8 * (1 + 2 * turn + part) + number] for part in range(2))
            (one,) = [i for i, principle in enumerate(principles) if principle.critique in critique]
            drawn.append(one)
            said = [
                *row["messages"],
                {"role": "assistant", "content": f"draft {turn}"},
                {"role": "user", "content": principles[one].critique},
                {"role": "assistant", "content": f"Bad {turn}"},
                {"role": "user", "content": principles[one].revision},
            ]
            render = tiny_tokenizer().apply_chat_template
            assert critique == render(said[:-2], tokenize=False, add_generation_prompt=True)
            assert revision == render(said, tokenize=False, add_generation_prompt=True)
    assert set(drawn) == {0, 1, 2}
    assert drawn[::2] != drawn[1::2]  # another one in each round


def test_a_sentence_makes_both_requests() -> None:
    principle = Principle.model_validate("Be brief {x}.")
    assert "Be brief {x}." in principle.critique
    assert "Be brief {x}." in principle.revision
    assert Principle.model_validate(principle.model_dump()) == principle  # as a resumed run reads it


def test_what_is_not_changed_is_left_out_and_counted(scripted: Any, tmp_path: Path) -> None:
    """Of six prompts: one answer and one critique are empty, a revision is empty, another the same, two are new."""
    fate: dict[str, int] = {}

    def script(text: str) -> str:
        question = text.split("user\n")[1].split("<|im_end|>")[0]
        kind = fate.setdefault(question, len(fate))
        last = text.split("<|im_start|>")[-2]
        if "CRITIQUE" in last:
            return "" if kind == 1 else "Bad"
        if "REVISE" in last:
            return ["", "never", " ", "first\n", "second", "third"][kind]
        return "" if kind == 0 else "first"

    asked = scripted(script)
    one = ["better.questions=6", "better.rounds=1", "better.principles=[{critique='CRITIQUE', revision='REVISE'}]"]
    progress = Notes()
    run_recipe(read_recipe(write(tmp_path), one), tmp_path / "run", progress)
    rows = lines(tmp_path / "run/stages/01-better/judged.jsonl")
    assert [row["answers"] for row in rows] == [["first", "second"], ["first", "third"]]
    result = json.loads((tmp_path / "run/stages/01-better/result.json").read_text())
    counts = {"prompts": 6, "revised": 2, "unchanged": 4, "too_long": 0}
    assert {key: result[key] for key in counts} == counts
    assert len(asked) == 6 + 5 + 4
    assert any("4 of 6 answers came out of their revision empty or as they were" in line for line in progress.heard)
    with pytest.raises(GateError, match=r"'revised >= 0\.5' is not met: revised is 0\.3333"):
        run_recipe(
            read_recipe(tmp_path / "recipe.toml", [*one, "better.require='revised >= 0.5'"]), tmp_path / "run", Quiet()
        )
    scripted(lambda text: "the same")
    with pytest.raises(NothingToLearnError, match="none of 6 answers was revised into another one"):
        run_recipe(read_recipe(write(tmp_path), one), tmp_path / "none", Quiet())


def test_an_answer_that_comes_back_is_the_last_one(scripted: Any, tmp_path: Path) -> None:
    """Revised to and fro, an answer counts as what it was last."""

    def script(text: str) -> str:
        last = text.split("<|im_start|>")[-2]
        if "Criticise" in last:
            return "Bad"
        return "there" if "Rewrite" in last and "assistant\nhere" in text else "here"

    scripted(script)
    run_recipe(read_recipe(write(tmp_path), ["better.principles=['Be.']"]), tmp_path / "run", Quiet())
    rows = lines(tmp_path / "run/stages/01-better/judged.jsonl")
    assert {(tuple(row["answers"]), tuple(row["scores"])) for row in rows} == {(("there", "here"), (0.0, 1.0))}


def test_a_conversation_that_turns_out_too_long_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a character of the sampler's is a whole one of three tokens when it is read."""
    torn = tiny_tokenizer().convert_tokens_to_ids("ÿ")

    def complete(request: Request, _: int) -> Completion:
        if "REVISE" in (text := tiny_tokenizer().decode(request.tokens)):
            return says("better")
        return says("Bad") if "CRITIQUE" in text or "2" in text else Completion([torn] * 500, [0.0] * 500, "length", 0)

    monkeypatch.setattr(revise, "build_engine", lambda wish, policy: ScriptedEngine(complete))
    overrides = ["better.rounds=1", "better.principles=[{critique='CRITIQUE', revision='REVISE'}]"]
    recipe = read_recipe(write(tmp_path), [*overrides, "better.sampling.max_new_tokens=500"])
    run_recipe(recipe, tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/01-better/result.json").read_text())
    assert result["too_long"] == result["unchanged"] > 0
    assert result["revised"] == 8 - result["unchanged"] > 0


def test_fine_tuning_learns_the_revision_and_preference_prefers_it(scripted: Any, tmp_path: Path) -> None:
    scripted(lambda text: "1111" if "Rewrite" in text else "Too odd" if "Criticise" in text else "8888")
    recipe = read_recipe(
        write(tmp_path, REVISE + SFT + DPO), ["imitate.keep=true", "better.principles=['Be.']", "better.rounds=1"]
    )
    run_recipe(recipe, tmp_path / "run", Quiet())
    tokenizer, prompt = tiny_tokenizer(), Prompt("p", (Message("user", "What is 3 + 4?"),))

    def preferred(folder: Path) -> tuple[float, float]:
        policy = load_policy(folder, torch.float32, torch.device("cpu"))
        rendered = [render_answer(tokenizer, prompt, answer) for answer in ("1111", "8888")]
        rows = [Row(tuple(asked), tuple(answer), 0) for asked, answer in rendered]
        revised, first = score_answers(policy, rows, 512).tolist()
        return revised, revised - first

    before, imitated, prefers = (
        preferred(folder) for folder in (tmp_path / "tiny", *sorted((tmp_path / "run/stages").glob("*/model")))
    )
    assert imitated[0] > before[0] + 3.0  # the likelihood of the last revision
    assert imitated[1] > before[1] + 3.0  # and not that of the first answer
    assert prefers[1] > before[1] + 1.0


def test_a_killed_stage_begins_anew_and_ends_the_same(tmp_path: Path) -> None:
    """With the real engine, killed in the second round's revisions."""

    class Killed(Quiet):
        def progress(self, done: int, total: int, what: str) -> None:
            self.seen = getattr(self, "seen", 0) + (what == "revisions" and done == total)
            if self.seen == 2:
                raise KeyboardInterrupt

    recipe = read_recipe(write(tmp_path), ["better.sampling.temperature=1.0"])
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    for left in ("stages/01-better/judged.jsonl", "stages/01-better/result.json", "samples.jsonl"):
        assert (tmp_path / "whole" / left).read_bytes() == (tmp_path / "cut" / left).read_bytes()
    assert len(lines(tmp_path / "whole/samples.jsonl")) == 8 * 5
    page = (tmp_path / "whole/report.html").read_text()
    assert "better" in page
    run_recipe(read_recipe(write(tmp_path), ["seed=4"]), tmp_path / "other", Quiet())
    whole, other = (tmp_path / f"{name}/stages/01-better/judged.jsonl" for name in ("whole", "other"))
    assert whole.read_bytes() != other.read_bytes()


MISTAKES = [
    ("better.principles=[]", ConfigError, r"stage\[0\]\.revise\.principles: .*at least 1 item"),
    ("better.principles=['']", ConfigError, r"stage\[0\]\.revise\.principles\[0\]: "),
    ("better.principles=[{critique='x'}]", ConfigError, r"principles\[0\]\.revision: Field required"),
    (
        "better.principles=[{critic='x',revision='y'}]",
        ConfigError,
        r"principles\[0\]: unknown key 'critic': did you mean 'critique'",
    ),
    ("better.round=2", ConfigError, r"stage\[0\]\.revise: unknown key 'round': did you mean 'rounds'"),
    ("better.environment=sum", ConfigError, r"no \[environments\.sum\]: did you mean 'sums'"),
    ("better.start=imitate", ConfigError, r"no stage before this one leaves 'imitate'"),
    (
        "better.sampling.max_new_tokens=900",
        DataError,
        r"better: a prompt of \d+ tokens, requests of \d+, .* 2048; set max_new_tokens to \d+ or less",
    ),
    ("imitate.source.stage=beter", ConfigError, r"imitate\.source: wanted .* a label or revise stage .* 'better'"),
]


@pytest.mark.parametrize(("override", "error", "message"), MISTAKES, ids=[m[0][:40] for m in MISTAKES])
def test_mistakes_are_refused(override: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, REVISE + SFT)
    with pytest.raises(error, match=message):
        plan_recipe(read_recipe(path, [override]))


def test_principles_must_be_given(tmp_path: Path) -> None:
    text = REVISE[: REVISE.index("principles")] + REVISE[REVISE.index("sampling") :]
    with pytest.raises(ConfigError, match=r"stage\[0\]\.revise\.principles: Field required"):
        read_recipe(write(tmp_path, text))


def test_a_model_without_turns_is_refused_even_where_prompts_are_plain(tmp_path: Path) -> None:
    odd = type(tiny_tokenizer()).from_pretrained(tiny_model_folder(tmp_path / "tiny", max_position_embeddings=2048))
    odd.chat_template = None
    save(tiny_model(max_position_embeddings=2048), odd, tmp_path / "plain")
    (tmp_path / "openings.jsonl").write_text("".join(json.dumps({"prompt": f"{i} is"}) + "\n" for i in range(8)))
    source = f"{{ type = 'jsonl', path = '{tmp_path}/openings.jsonl', question = 'prompt', plain = true }}"
    write(tmp_path, f"[environments.texts]\ntype = 'questions'\ntrain = {source}\ntest = {source}\n{REVISE}")
    texts = ["better.environment=texts"]
    with pytest.raises(ModelError, match=r"better: answers are criticised in a conversation, .* has no chat template"):
        plan_recipe(read_recipe(tmp_path / "recipe.toml", [*texts, f"model={tmp_path}/plain"]))
    run_recipe(read_recipe(tmp_path / "recipe.toml", texts), tmp_path / "run", Quiet())  # with turns it is none
    rows = lines(tmp_path / "run/stages/01-better/judged.jsonl")
    assert {row["prompt"] for row in rows} <= {f"{i} is" for i in range(8)}
