"""A judge on this machine: probabilities as transformers' own forward has them, words, master keys, whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.engines import Completion, Request, ScriptedEngine
from tutelage.errors import ConfigError, ModelError
from tutelage.models import load_policy
from tutelage.models.loading import save
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.rewards.base import Fault
from tutelage.rewards.verdict import compared, graded
from tutelage.stages.local_judge import LocalJudge
from tutelage.training import Quiet
from tutelage.types import Group, Message, Prompt, Sample

CPU = torch.device("cpu")
PROMPT = Prompt("p", messages=(Message("user", "Name a prime {number}."),))
OTHER = Prompt("q", text="Primes are")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("judge") / "tiny", max_position_embeddings=2048)


def judge(tiny: Path, **fields: Any) -> LocalJudge:
    run: Any = SimpleNamespace(
        load_policy=lambda model: load_policy(Path(model), torch.float32, CPU),
        recipe=SimpleNamespace(engine="auto"),
    )
    return LocalJudge(model=str(tiny), **fields).loaded(run)


def group(prompt: Prompt, *texts: str) -> Group:
    return Group(prompt, (), [Sample(prompt.id, i, [1], [0.0], text, "stop", 0) for i, text in enumerate(texts)])


def next_token(tiny: Path, question: str) -> dict[str, float]:
    """What plain transformers finds likely after the question and "[["."""
    tokenizer, model = tiny_tokenizer(), AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    tokens = tokenizer.encode(f"{asked}[[", add_special_tokens=False)
    with torch.no_grad():
        probs_V = model(torch.tensor([tokens])).logits[0, -1].double().softmax(-1)
    return {text: probs_V[tokenizer.convert_tokens_to_ids(text)].item() for text in "AB123456789"}


def preferred(tiny: Path, prompt: Prompt, first: str, second: str) -> float:
    """The mean of both orders, by plain transformers."""
    found = [next_token(tiny, compared(prompt, *pair, "short")) for pair in ((first, second), (second, first))]
    forward, backward = (probs["A"] / (probs["A"] + probs["B"]) for probs in found)
    return (forward + (1.0 - backward)) / 2


@pytest.mark.parametrize("budget", [1, 700, 20_000])
def test_shares_are_those_of_the_next_token_in_both_orders(tiny: Path, budget: int) -> None:
    reward = judge(tiny, rubric="short", tokens_per_microbatch=budget)
    texts = ["7", "The answer is 12.", "42 {x}"]
    found = reward.score_groups([group(PROMPT, *texts), group(OTHER, "2, 3", "odd")])
    (xy, yz, zx) = (preferred(tiny, PROMPT, texts[i], texts[(i + 1) % 3]) for i in range(3))
    assert found[0] == pytest.approx([(xy + 1 - zx) / 2, (yz + 1 - xy) / 2, (zx + 1 - yz) / 2], abs=2e-6)
    other = preferred(tiny, OTHER, "2, 3", "odd")
    assert found[1] == pytest.approx([other, 1 - other], abs=2e-6)
    assert max(found[0]) - min(found[0]) > 1e-3  # type: ignore[type-var]


def test_a_grade_is_the_one_that_is_expected(tiny: Path) -> None:
    reward = judge(tiny, mode="grade", scale=(2, 6))
    texts = ["7", "The answer is 12."]
    expected: list[float] = []
    for text in texts:
        probs = next_token(tiny, graded(PROMPT, text, (2, 6), None))
        total = sum(probs[str(grade)] for grade in range(2, 7))
        expected.append(sum((grade - 2) / 4 * probs[str(grade)] / total for grade in range(2, 7)))
    assert reward.score_groups([group(PROMPT, *texts)])[0] == pytest.approx(expected, abs=2e-6)
    assert reward.score(PROMPT, group(PROMPT, "7").samples[0]) == pytest.approx(expected[0], abs=2e-6)
    assert abs(expected[0] - expected[1]) > 1e-4


def test_swapping_the_sides_swaps_the_share_exactly(tiny: Path) -> None:
    forward, backward, same = judge(tiny).score_groups(
        [group(PROMPT, "7", "12"), group(PROMPT, "12", "7"), group(PROMPT, "7", "7")]
    )
    assert forward[0] != 0.5
    assert forward[0] + backward[0] == 1.0  # type: ignore[operator]
    assert forward[0] + forward[1] == 1.0  # type: ignore[operator]
    assert same == [0.5, 0.5]


@pytest.mark.parametrize("key", ["Solution", ":", "Thought process:", "", " **Solution** "])
@pytest.mark.parametrize("by", ["probability", "words"])
def test_master_keys_open_nothing(tiny: Path, key: str, by: str) -> None:
    """They lose, and get 0, and are not shown: the scripted judge, which likes all that it sees, is asked once."""
    asked: list[Request] = []

    def likes(request: Request, _: int) -> Completion:
        asked.append(request)
        return says("[[9]]")

    pairs, grades = judge(tiny, by=by), judge(tiny, by=by, mode="grade")
    if by == "words":
        pairs._engine = grades._engine = ScriptedEngine(likes)
    assert pairs.score_groups([group(PROMPT, key, "7"), group(PROMPT, key, key)]) == [[0.0, 1.0], [0.5, 0.5]]
    assert not asked
    nothing, seven = grades.score_groups([group(PROMPT, key, "7")])[0]
    assert nothing == 0.0
    assert isinstance(seven, float)
    assert 0.0 < seven <= 1.0
    assert len(asked) == (by == "words")


def says(text: str) -> Completion:
    tokens = tiny_tokenizer().encode(text, add_special_tokens=False)
    return Completion([*tokens, 2], [0.0] * (len(tokens) + 1), "stop", 0)


def test_words_are_read_in_both_orders(tiny: Path) -> None:
    """A judge that prefers the larger number, takes sides where they are equal in length 1, and is lost at 13."""

    def script(request: Request, _: int) -> Completion:
        text = tiny_tokenizer().decode(request.tokens)
        first, rest = text.split("----- answer A\n")[1].split("\n----- answer B\n")
        numbers = int(first), int(rest.split("\n")[0])
        if 13 in numbers:
            return says("I cannot say.")
        if max(numbers) < 10:
            return says("The first: [[A]]")
        return says("Not [[C]] but [[A]]" if numbers[0] > numbers[1] else "[[B]]")

    reward = judge(tiny, by="words")
    reward._engine = ScriptedEngine(script)
    won, tied, lost = reward.score_groups(
        [group(PROMPT, "30", "10", "20"), group(PROMPT, "1", "2"), group(PROMPT, "13", "20", "30")]
    )
    assert won == [1.0, 0.0, 0.5]
    assert tied == [0.5, 0.5]
    assert lost[1:] == [0.0, 1.0]
    assert lost[0] == Fault("the judge gave no verdict: 'I cannot say.'")


def test_what_the_judges_context_does_not_hold_is_a_fault(tiny: Path) -> None:
    long = "7 " * 2000
    for by in ("probability", "words"):
        reward = judge(tiny, by=by, mode="grade", **({"max_tokens": 4} if by == "words" else {}))
        fine, fault = reward.score_groups([group(PROMPT, "7", long)])[0]
        assert isinstance(fault, Fault)
        assert "tokens" in fault.reason
        assert "its context holds 2048: shorten the answers (max_new_tokens)" in fault.reason
        assert isinstance(fine, float) or "no grade" in fine.reason  # a random model writes none
    with pytest.raises(ValueError, match="its context holds 2048"):
        reward.score(PROMPT, group(PROMPT, long).samples[0])


RECIPE = """
name = "judged"
model = "{model}"
seed = 3
compute = "fp32"

[environments.sums]
type = "arithmetic"
maximum = 9
train_questions = 40
test_questions = 20

[[stage]]
name = "dpo"
type = "rl"
environment = "sums"
algorithm = {{ type = "online_dpo" }}
rewards = [{{ type = "local-judge", model = "base" }}]
steps = 3
prompts_per_step = 4
completions_per_prompt = 2
sampling = {{ max_new_tokens = 6 }}
optimizer = {{ lr = 1e-3 }}
checkpoints = {{ every = 2 }}

[[stage]]
name = "grpo"
type = "rl"
environment = "sums"
rewards = [{{ type = "local-judge", model = "base", mode = "grade", tokens_per_microbatch = 16384 }}]
algorithm = {{ type = "rloo" }}
steps = 4
prompts_per_step = 6
completions_per_prompt = 6
sampling = {{ max_new_tokens = 6 }}
optimizer = {{ lr = 1e-2 }}
checkpoints = {{ every = 2 }}

[[stage]]
name = "labels"
type = "label"
environment = "sums"
questions = 6
answers = 3
rewards = [{{ type = "local-judge", model = "grpo" }}]
sampling = {{ max_new_tokens = 6 }}

[[stage]]
name = "scores"
type = "evaluate"
environment = "sums"
rewards = [{{ type = "local-judge", model = "dpo", mode = "grade" }}]
sampling = {{ max_new_tokens = 6, temperature = 1.0 }}

[[stage]]
name = "whose"
type = "compare"
environment = "sums"
contestants = [{{ model = "base" }}, {{ model = "grpo" }}]
rewards = [
    {{ type = "local-judge", model = "base", mode = "grade", name = "grade" }},
    {{ type = "local-judge", model = "base", name = "pairs" }},
]
samples = 2
sampling = {{ max_new_tokens = 6 }}
"""


def write(folder: Path) -> Path:
    """A model of another seed: as a judge, this one is more impressed by what it reads than the usual one."""
    model = tiny_model_folder(folder / "tiny", max_position_embeddings=2048, seed=3)
    (folder / "recipe.toml").write_text(RECIPE.format(model=model))
    return folder / "recipe.toml"


def lines(path: Path, stage: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row["stage"] == stage]


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_what_it_likes_is_learned_and_what_it_dislikes_is_not(tmp_path: Path, weight: float) -> None:
    head, _, grpo, *_ = write(tmp_path).read_text().split("[[stage]]")
    (tmp_path / "recipe.toml").write_text(f"{head}[[stage]]{grpo}".replace('"grade",', f'"grade", weight = {weight},'))
    run_recipe(read_recipe(tmp_path / "recipe.toml", ["grpo.steps=14"]), tmp_path / "run", Quiet())
    grades = [row["reward/local-judge"] for row in lines(tmp_path / "run/metrics.jsonl", "grpo")]
    gained = sum(grades[-4:]) / 4 - sum(grades[:2]) / 2
    assert gained > 0.02 if weight > 0 else gained < -0.1, grades


def test_it_judges_in_every_stage(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path))
    run_recipe(recipe, tmp_path / "run", Quiet())
    shares = [
        sample["reward"] for sample in lines(tmp_path / "run/samples.jsonl", "dpo") if sample["reward"] is not None
    ]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert sum(shares) == pytest.approx(len(shares) / 2)
    rows = [json.loads(line) for line in (tmp_path / "run/stages/03-labels/judged.jsonl").read_text().splitlines()]
    assert all(sum(row["scores"]) == pytest.approx(1.5) for row in rows if len(row["scores"]) == 3)
    scores = json.loads((tmp_path / "run/stages/04-scores/result.json").read_text())
    assert 0.0 < scores["summary"]["score"]["mean"] < 1.0
    found = json.loads((tmp_path / "run/stages/05-whose/result.json").read_text())["contestants"]["grpo"]
    assert 0.0 < found["beats"]["base"]["grade"]["mean"] < 1.0
    # In pairs, answers of one contestant are compared with those of the other: shares of both add up to 1.
    shares = [
        sample["rewards"]["pairs"]
        for name in ("whose: base", "whose: grpo")
        for sample in lines(tmp_path / "run/samples.jsonl", name)
    ]
    assert sum(shares) == pytest.approx(len(shares) / 2)


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 3 and "reward/local-judge" in numbers and numbers["groups"] == 6:
                raise KeyboardInterrupt

    recipe = read_recipe(write(tmp_path))
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    for left in ("stages/02-grpo/model/model.safetensors", "stages/03-labels/judged.jsonl", "samples.jsonl"):
        assert (tmp_path / "whole" / left).read_bytes() == (tmp_path / "cut" / left).read_bytes()


JUDGE = "{type='local-judge',model='base'"
MISTAKES = [
    (f"grpo.rewards=[{JUDGE.replace('base', 'dop')}}}]", r"grpo\.rewards\[0\]\.model: 'dop' is neither .* mean 'dpo'"),
    (f"dpo.rewards=[{JUDGE.replace('base', 'grpo')}}}]", r"rewards\[0\]\.model: 'grpo' comes after this stage"),
    (
        f"whose.rewards=[{JUDGE.replace('base', 'labels')}}}]",
        r"leaves: policy; 'labels' .label. leaves: judged answers",
    ),
    (f"dpo.rewards=[{JUDGE},rubrik='x'}}]", r"dpo\.rewards\[0\]: unknown key 'rubrik': did you mean 'rubric'"),
    (f"dpo.rewards=[{JUDGE},scale=[1,5]}}]", r"scale: is for mode = 'grade'"),
    (f"dpo.rewards=[{JUDGE},mode='grade',scale=[5,1]}}]", r"scale: must be \[lowest, highest\]"),
    (f"dpo.rewards=[{JUDGE},mode='grade',scale=[1,10]}}]", r"scale: probabilities are of single digits"),
    (f"dpo.rewards=[{JUDGE},max_tokens=9}}]", r"max_tokens: is for by = 'words'"),
    (
        f"dpo.rewards=[{JUDGE},by='words',tokens_per_microbatch=9}}]",
        r"tokens_per_microbatch: is for by = 'probability'",
    ),
    (f"scores.rewards=[{JUDGE}}}]", r"scores\.rewards\[0\]\.mode: .* half win, .* take mode = 'grade', or a compare"),
    ("scores.rewards=[{type='judge',url='http://x/v1',model='x',mode='pairs'}]", r"scores\.rewards\[0\]\.mode: "),
    ("labels.answers=1", r"labels\.rewards\[0\]\.mode: 'pairs' compares answers; set labels\.answers to 2 or more"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0][:70] for m in MISTAKES])
def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path)
    with pytest.raises(ConfigError, match=message):
        plan_recipe(read_recipe(path, [override]))


def test_a_tokenizer_without_such_tokens_or_turns_is_refused(tmp_path: Path) -> None:
    path, tokenizer = write(tmp_path), tiny_tokenizer()
    override = f"dpo.rewards=[{{type='local-judge',model='{tmp_path}/odd'}}]"
    odd = type(tokenizer).from_pretrained(tmp_path / "tiny")
    odd.add_tokens(["[[A", "[[B"])
    save(tiny_model(max_position_embeddings=2048), odd, tmp_path / "odd")
    with pytest.raises(ModelError, match=r"dpo\.rewards\[0\]\.model: 'A' after '\[\[' is no single .* by = 'words'"):
        plan_recipe(read_recipe(path, [override]))
    odd.chat_template = None
    (tmp_path / "odd/chat_template.jinja").unlink(missing_ok=True)
    save(tiny_model(max_position_embeddings=2048), odd, tmp_path / "odd")
    with pytest.raises(ModelError, match=r"dpo\.rewards\[0\]\.model: .* has no chat template to be asked in"):
        plan_recipe(read_recipe(path, [override]))
