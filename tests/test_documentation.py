"""What the pages say holds: their examples run, their recipes pass, their tables name every key."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from tutelage.algorithms import ALGORITHMS
from tutelage.cli.commands import app
from tutelage.config import (
    Architecture,
    Checkpoints,
    CompareStage,
    Contestant,
    ControlStage,
    Correction,
    EvaluateStage,
    Guard,
    LabelStage,
    Lora,
    Optimizer,
    Part,
    PerplexityStage,
    PlayStage,
    PositionsStage,
    PredictStage,
    PreferenceStage,
    Pretraining,
    PretrainStage,
    Principle,
    PruneStage,
    Recipe,
    Record,
    Reference,
    RejectionStage,
    ReviseStage,
    RewardModelStage,
    RlGuards,
    RlStage,
    Sampling,
    SftStage,
    StepLabels,
    SycophancyStage,
    Teacher,
    Thought,
    Tokenizer,
    read_recipe,
    read_suite,
)
from tutelage.config.repeat import Repeat
from tutelage.pipelines import plan_recipe
from tutelage.stages import RewardModelPlan
from tutelage.training.guards import RULES

ROOT = Path(__file__).parents[1]
PAPERS = (ROOT / "PAPERS.md").read_text(encoding="utf-8")
PAGES = {
    page.name: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def test_the_recipe_on_the_recipes_page_passes_check(tmp_path: Path) -> None:
    (text,) = blocks("recipes.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("grpo, 100 steps x 8 prompts x 8 completions" in line for line in lines)


PARTS = [
    Recipe, PretrainStage, Tokenizer, Architecture, EvaluateStage, SftStage, RewardModelStage, PreferenceStage, RlStage,
    LabelStage, ReviseStage, Principle, RejectionStage, Teacher, CompareStage, Contestant, ControlStage, PlayStage,
    PruneStage, Repeat, Pretraining, Lora, StepLabels, PositionsStage, PredictStage, Thought, PerplexityStage,
    SycophancyStage,
]  # fmt: skip


@pytest.mark.parametrize(
    "part", [*PARTS, Sampling, Optimizer, Checkpoints, Correction, Record, Reference, Guard, RlGuards]
)
def test_the_recipes_page_names_every_key(part: type[Part]) -> None:
    missing = [key for key in part.model_fields if not re.search(rf"[`\[ ]{key}\b|^{key} =", PAGES["recipes.md"], re.M)]
    assert not missing


def test_the_algorithm_of_the_page_is_one_and_learns() -> None:
    """The worked example, as it stands there, on the words that the page gives it."""
    code, use = blocks("add-an-algorithm.md", "python")
    names: dict[str, object] = {"__name__": "best_of_group"}
    exec(code, names)
    exec(use, names)
    assert names["credit"].tolist() == [0.0, 0.0, 1.0, 1.0]  # type: ignore[attr-defined]


def test_the_algorithms_page_names_every_algorithm_and_its_keys() -> None:
    for name, algorithm in ALGORITHMS.items():
        assert f"`{name}`" in PAGES["algorithms.md"], name
        assert f"(`{name}`)" in PAPERS, name
        for key in algorithm.model_fields:
            assert re.search(rf"`{key}\b", PAGES["algorithms.md"]), f"{name}: {key}"


def test_the_recipes_of_the_control_page_pass_check(tmp_path: Path) -> None:
    (text,) = blocks("control.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("ppo, 40 steps, in each 128 steps of 8 environments" in line for line in lines)


def test_the_recipe_of_the_pretraining_page_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    for name in ("books/one.txt", "books/two.txt", "held-out.txt"):
        (tmp_path / name).write_text(f"{name} is a book.\n" * 9)
    text = blocks("pretraining.md", "toml")[0]
    (tmp_path / "mine.toml").write_text(text)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("llama, 5.3 M parameters: 6 layers of width 256, 4 heads of 64 on 4" in line for line in lines)
    assert any("1000 steps of 8192 tokens (32 sequences of 256), of 20000 texts" in line for line in lines)


def test_the_recipes_of_reinforcement_in_pretraining_pass_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    for name in ("books/one.txt", "books/two.txt", "held-out.txt"):
        (tmp_path / name).write_text(f"{name} is a book.\n" * 300)
    _, reason, think = blocks("pretraining.md", "toml")
    (tmp_path / "mine.toml").write_text(think)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("1000 positions to train on and 200 held-out ones of 3 texts, entropy of" in line for line in lines)
    assert any("the next token, after 1 thought each, at the positions that stage 'look'" in line for line in lines)
    words, stage = reason.split("[[stage]]")
    look = think.split("[[stage]]")[1]
    rpt = f'name = "reasons"\nmodel = "smollm2-135m-instruct"\n{words}[[stage]]{look}[[stage]]{stage}'
    (tmp_path / "mine.toml").write_text(rpt)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("grpo, 100 steps x 8 prompts x 8 completions" in line for line in lines)


def test_the_suite_of_the_evaluation_page_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/one.txt").write_text("A text.\n" * 9)
    (tmp_path / "trivia.jsonl").write_text(json.dumps({"question": "6 * 7?", "answer": "42"}))
    (text,) = blocks("evaluation.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    recipe = read_suite(tmp_path / "mine.toml").of_models(["smollm2-135m-instruct", "qwen2.5-0.5b-instruct"])
    lines = list(plan_recipe(recipe, must_reach=False).lines())
    assert any("(perplexity): 1 texts in pieces of 512 tokens" in line for line in lines)
    assert sum("8 samples each at temperature 0.7" in line for line in lines) == 2


def test_the_examples_of_the_evaluation_page_run() -> None:
    (example,) = blocks("evaluation.md", "python")
    exec(example, {})


def test_the_examples_of_the_runs_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    for example in blocks("runs.md", "python"):
        exec(example, {})
    assert "5 steps x 16 prompts" in capsys.readouterr().out


def test_the_guards_page_has_every_guards_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*)$", PAGES["guards.md"], re.M))
    for name, guard in RlGuards():
        if not isinstance(guard, Guard):
            continue
        limit, steps, action = (cell.strip() for cell in rows[name].split("|")[:3])
        assert (int(steps), action) == (guard.steps, guard.action), name
        limits = RULES[name].limits or {"": guard.limit}
        told = [float(number) for number in re.findall(r"(?<!\w)\d[\d.e-]*", limit)]
        assert told == list(limits.values()), name


def commands() -> list[str]:
    """Every `tutelage ...` that stands on a page, in a block or in the text."""
    found = [
        line for text in PAGES.values() for line in re.findall(r"(?:^|[`$ ])(tutelage [a-z]+[^`\n#]*)", text, re.M)
    ]
    return sorted({line.strip() for line in found if line.split()[1] in get_command(app).commands})


@pytest.mark.parametrize("line", commands())
def test_the_commands_on_the_pages_exist(line: str) -> None:
    _, name, *words = shlex.split(line.split("  ")[0].replace("'", ""))
    command = get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {"fetch"} if name == "models" else set()
    assert {word for word in words if word.startswith("--")} <= known


def test_links_between_pages_lead_somewhere() -> None:
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / target).exists(), f"{page}: {target}"
        for target in re.findall(r"\bdocs/[\w-]+\.md\b", text):
            assert (ROOT / target).exists(), f"{page}: {target}"


def test_the_recipes_of_the_alignment_page_pass_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {
        "questions": {"question": "6 * 7?", "answer": "42"},
        "conversations": {"question": "6 * 7?", "answer": "42"},
        "judged": {"question": "6 * 7?", "chosen": "42", "rejected": "41"},
    }
    for name, row in rows.items():
        lines = [json.dumps({**row, "question": f"{i} * 7?"}) for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    text, constitutional, process = blocks("alignment.md", "toml")
    (tmp_path / "mine.toml").write_text(constitutional)
    plan = plan_recipe(read_recipe(tmp_path / "mine.toml"))
    assert any(
        "18 prompts of questions/train, criticised by 2 principles and revised, 2" in line for line in plan.lines()
    )
    (reward,) = (one for one in plan.stages if isinstance(one, RewardModelPlan))
    assert reward.loss.probabilities
    (tmp_path / "mine.toml").write_text(text)
    lines = list(plan_recipe(read_recipe(tmp_path / "mine.toml")).lines())
    assert any("dpo, 1 steps x 64 prompts, 1 epochs of 20 prompts with 40 judged answers" in line for line in lines)
    assert any("sft, ppo, dpo, sft, best of 16" in line for line in lines)
    (tmp_path / "process.toml").write_text(process)
    lines = list(plan_recipe(read_recipe(tmp_path / "process.toml")).lines())
    assert any("prime, 100 steps x 8 prompts x 8 completions" in line for line in lines)
    assert any("each step gone on with 8 times" in line for line in lines)
