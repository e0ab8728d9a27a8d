"""Pre-training from nothing: bits per byte as transformers counts them, learning, resumption, and what is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.pipelines.parts import tiny_model_folder
from tutelage.config import read_recipe
from tutelage.data import corpus as corpus_module
from tutelage.errors import ConfigError, DataError, GateError, RunFolderError
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.stages import plan_stage, pretrain
from tutelage.stages.context import StageRun
from tutelage.stages.pretrain import PretrainPlan, begin_from_nothing, rows_of_step, tokenised
from tutelage.training import Quiet, learning_rate

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "one", "dog", "ran", "to", "an", "old", "barn"]
RECIPE = """
name = "begins"
compute = "fp32"
{top}
[environments.sums]
type = "arithmetic"
maximum = 9
train_questions = 40
test_questions = 20

[[stage]]
name = "begin"
type = "pretrain"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
{made}
context = 48
tokens_per_step = 192
tokens_per_microbatch = 100
steps = 20
evaluate_every = 5
optimizer = {{ warmup_steps = 2, lr = 1e-2 }}
checkpoints = {{ every = 3 }}
"""
MADE = """
tokenizer = {{ vocabulary = 300 }}
architecture = {{ width = 64, layers = 2, heads = 2, context = {context} }}
"""
SFT = """
[[stage]]
name = "then"
type = "sft"
source = { type = "environment", environment = "sums" }
steps = 2
"""
MID = """
[[stage]]
name = "mid"
type = "pretrain"
source = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
context = 32
tokens_per_step = 64
epochs = 3
"""


def text(first: int) -> str:
    """Every word but the first follows from the one before."""
    return " ".join(WORDS[(first + i) % len(WORDS)] for i in range(90)) + f". Zoë {first}\n"


SIZE = sum(len(text(number).encode()) for number in range(1, 8, 2))  # of the held-out texts


def write_recipe(folder: Path, more: str = "", top: str = "", made: str = MADE, context: int = 96) -> Path:
    for name, numbers in (("train", range(0, 14, 2)), ("test", range(1, 8, 2))):
        rows = [{"text": text(number)} for number in numbers]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder, top=top, made=made.format(context=context)) + more)
    return path


def run(path: Path, *overrides: str, name: str = "run") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run_recipe(read_recipe(path, overrides), path.parent / name, Quiet())
    result = json.loads((path.parent / name / "stages/01-begin/result.json").read_text())
    return result, [json.loads(line) for line in (path.parent / name / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("learned")
    return folder / "run", *run(write_recipe(folder), "begin.steps=60")


def held_out_by_transformers(model: Path, context: int) -> tuple[list[float], list[int], list[int]]:
    """Of each held-out text: bits, tokens guessed, tokens."""
    module, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    bits: list[float] = []
    right: list[int] = []
    tokens: list[int] = []
    for number in range(1, 8, 2):
        ids = [*tokenizer(text(number)).input_ids, tokenizer.eos_token_id]
        if tokenizer("x").input_ids[0] != tokenizer.bos_token_id:  # where no bos is written, eos begins a text
            ids.insert(0, tokenizer.eos_token_id)
        found = 0.0
        guessed = 0
        for start in range(0, len(ids) - 1, context - 1):
            piece = torch.tensor(ids[start : start + context])
            with torch.no_grad():
                logits = module(piece[None]).logits[0, :-1]
            found += torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").item() / math.log(2)
            guessed += int((logits.argmax(-1) == piece[1:]).sum())
        bits.append(found)
        right.append(guessed)
        tokens.append(len(ids) - 1)
    return bits, right, tokens


def test_bits_per_byte_are_those_of_transformers_own_forward(learned: tuple[Path, Any, Any]) -> None:
    folder, result, metrics = learned
    bits, right, tokens = held_out_by_transformers(folder / "model", 48)
    assert max(tokens) > 2 * 48  # in three pieces
    assert result["bits_per_byte"]["mean"] == pytest.approx(sum(bits) / SIZE, rel=1e-5)
    assert result["next_token_accuracy"]["mean"] == pytest.approx(sum(right) / sum(tokens), abs=1e-9)
    assert result["bits_per_byte"]["n"] == 4
    assert result["bits_per_byte"]["low"] < result["bits_per_byte"]["mean"] < result["bits_per_byte"]["high"]
    assert metrics[-1]["bits_per_byte"] == pytest.approx(result["bits_per_byte"]["mean"], rel=1e-6)
    assert [line["step"] for line in metrics if "bits_per_byte" in line] == list(range(5, 61, 5))


def test_it_begins_at_the_uniform_distribution_and_learns_what_follows_what(learned: tuple[Path, Any, Any]) -> None:
    """Far below what the tokens' frequencies alone could reach, which a model that sees no context ends at."""
    folder, result, metrics = learned
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert metrics[0]["loss"] == pytest.approx(math.log(len(tokenizer)), rel=0.02)
    texts = [text(number) for number in range(1, 8, 2)]
    counts = Counter(token for one in texts for token in tokenizer(one).input_ids[1:])
    unigram = -sum(n * math.log2(n / counts.total()) for n in counts.values()) / sum(len(t.encode()) for t in texts)
    assert result["bits_per_byte"]["mean"] < 0.25 * unigram
    assert result["next_token_accuracy"]["mean"] > 0.85


def test_what_was_tokenised_is_the_texts(learned: tuple[Path, Any, Any]) -> None:
    folder, _, metrics = learned
    tokenizer = AutoTokenizer.from_pretrained(folder / "stages/01-begin/start")
    tokens = load_file(folder / "stages/01-begin/corpus.safetensors")["tokens"]
    assert "".join(tokenizer.decode(tokens, skip_special_tokens=True)) == "".join(text(n) for n in range(0, 14, 2))
    assert all(line["tokens"] <= 4 * 47 for line in metrics)


@pytest.mark.parametrize("kill", [2, 8, 19])
def test_a_resumed_run_equals_an_uninterrupted_one(kill: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == kill:
                raise KeyboardInterrupt

    decay = f'begin.decay_source={{type="jsonl", path="{tmp_path}/test.jsonl"}}'
    recipe = read_recipe(
        write_recipe(tmp_path, MID.format(folder=tmp_path)), [decay, "begin.optimizer.decay_share=0.5"]
    )
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    with monkeypatch.context() as patched:  # what was made is read
        patched.setattr(pretrain, "train_tokenizer", None)
        texts = [text(number) for number in range(0, 14, 2)]
        plain = corpus_module.render_text
        patched.setattr(corpus_module, "render_text", lambda t, one: None if one in texts else plain(t, one))
        resume_run(tmp_path / "cut", Quiet())
    for stage in ("01-begin", "02-mid"):
        paths = [tmp_path / name / f"stages/{stage}/model/model.safetensors" for name in ("whole", "cut")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    metrics = [
        [
            {key: value for key, value in json.loads(line).items() if "second" not in key and not key.endswith("_gib")}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "cut")
    ]
    assert metrics[0] == metrics[1]


def tokens_of(path: Path, *overrides: str) -> PretrainPlan:
    """The plan with its texts as tokens."""
    recipe = read_recipe(path, overrides)
    plan = plan_stage(recipe.stage[0], recipe)
    assert isinstance(plan, PretrainPlan)
    start = begin_from_nothing(plan, recipe, path.parent, lambda _: None)
    return tokenised(plan, start, path.parent, lambda _: None)


def test_an_epoch_has_every_sequence_once_and_the_next_one_in_another_order(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    plan = tokens_of(path, "begin.tokens_per_step=48")
    assert plan.corpus is not None
    count = plan.corpus.sequences(48)
    epochs = ([str(rows_of_step(plan, step, 7)) for step in range(e * count, (e + 1) * count)] for e in (0, 1))
    first, second = epochs
    assert sorted(first) == sorted(second) == sorted(str(plan.corpus.rows(place, 48)) for place in range(count))
    assert first != second
    assert str(rows_of_step(plan, 0, 8)) != first[0]
    path.write_text(path.read_text().replace("steps = 20\n", "epochs = 3\n"))
    assert tokens_of(path).total_steps == math.ceil(3 * count / 4)


def test_the_decay_has_texts_of_its_own(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    plan = tokens_of(path, f'begin.decay_source={{type="jsonl", path="{tmp_path}/test.jsonl"}}')
    assert plan.corpus is not None
    assert plan.decay_corpus is not None
    own, others = (
        {row.tokens for place in range(corpus.sequences(48)) for row in corpus.rows(place, 48)}
        for corpus in (plan.corpus, plan.decay_corpus)
    )
    drawn = [{row.tokens for row in rows_of_step(plan, step, 7)} for step in range(20)]
    rates = [learning_rate(plan.stage.optimizer, step, 20) for step in range(20)]
    for rows, rate, before in zip(drawn[2:], rates[2:], rates[1:], strict=False):  # behind the warm-up
        assert rows <= (others if rate < before else own)
    assert [rate < 1e-2 for rate in rates[2:]] == [False] * 14 + [True] * 4


def test_it_goes_on_with_a_model_that_is_there(tmp_path: Path) -> None:
    model = tiny_model_folder(tmp_path / "tiny")
    path = write_recipe(tmp_path, top=f'model = "{model}"', made="")
    result, metrics = run(path, "begin.optimizer.lr=1e-3")
    assert not (tmp_path / "run/stages/01-begin/start").exists()
    told = [line["bits_per_byte"] for line in metrics if "bits_per_byte" in line]
    assert told[-1] < 0.8 * told[0]
    bits, _, _ = held_out_by_transformers(tmp_path / "run/model", 48)
    assert result["bits_per_byte"]["mean"] == pytest.approx(sum(bits) / SIZE, rel=1e-5)


def test_what_follows_is_checked_before_the_training_begins(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, SFT, context=50)
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("from nothing" in line for line in lines)
    assert any("llama, 0.1 M parameters: 2 layers of width 64, 2 heads of 32 on 2" in line for line in lines)
    assert any("checked against its tokenizer as soon as that is made" in line for line in lines)
    assert any("20 steps of 192 tokens (4 sequences of 48), of 7 texts (0.0 MB)" in line for line in lines)
    with pytest.raises(DataError, match=r"then\.source: conversation .* the model's context is 50"):
        run(path)
    assert (tmp_path / "run/metrics.jsonl").read_text() == ""
    assert (tmp_path / "run/stages/01-begin/start").is_dir()


def test_later_stages_go_on_with_it(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, SFT + "keep = true\n" + MID.format(folder=tmp_path) + 'start = "begin"\n')
    result, metrics = run(path, "begin.steps=3", "begin.require=bits_per_byte > 1")
    assert result["steps"] == 3
    assert [line["stage"] for line in metrics][:6] == ["begin"] * 3 + ["then"] * 2 + ["mid"]
    with pytest.raises(GateError, match=r"begin\.require: 'next_token_accuracy >= 0\.9' is not met"):
        run(path, "begin.steps=3", "begin.require=next_token_accuracy >= 0.9")


def test_it_stands_where_nothing_has_changed_and_runs_again_on_other_texts(tmp_path: Path) -> None:
    class Heard(Quiet):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    path, first, second = write_recipe(tmp_path, SFT), Heard(), Heard()
    run(path, "begin.steps=3")
    recipe = read_recipe(path, ["begin.steps=3"])
    run_recipe(recipe, tmp_path / "run", first)
    assert "begin: finished before; nothing that it depends on has changed" in first.notes
    with pytest.raises(DataError, match=r"then\.source: conversation .* tokens_per_microbatch 5"):
        run_recipe(read_recipe(path, ["begin.steps=3", "then.tokens_per_microbatch=5"]), tmp_path / "run", Quiet())
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    before = (tmp_path / "run/stages/01-begin/start/tokenizer.json").read_text()
    run_recipe(recipe, tmp_path / "run", second)
    assert "begin: runs again: its data are others" in second.notes
    assert (tmp_path / "run/stages/01-begin/start/tokenizer.json").read_text() != before


MISTAKES = [
    (
        ["mid.context=128", "mid.tokens_per_step=128"],
        DataError,
        r"mid\.context: 128 is above the model's own, 96; lower it",
    ),
    (
        ["begin.tokens_per_step=100"],
        ConfigError,
        r"tokens_per_step: no multiple of context = 48; set it to 96 or 144",
    ),
    (["begin.tokens_per_step=40"], ConfigError, r"tokens_per_step: no multiple of context = 48; set it to 48"),
    (["begin.tokens_per_microbatch=40"], ConfigError, r"tokens_per_microbatch: holds no sequence of context = 48"),
    (["begin.architecture.context=40"], ConfigError, r"architecture\.context: .* sequences of 48 tokens"),
    (["begin.architecture.heads=3"], ConfigError, r"width: 64 cannot be cut into 3 heads"),
    (["begin.architecture.kv_heads=4"], ConfigError, r"kv_heads: 2 heads cannot share 4 evenly"),
    (["begin.architecture.dept=4"], ConfigError, r"architecture: unknown key 'dept'"),
    (["begin.tokenizer.vocabulary=200"], ConfigError, r"tokenizer\.vocabulary: .*261 \(given: 200\)"),
    (
        ["begin.tokenizer.type=bytes"],
        ConfigError,
        r"vocabulary: there are 261 tokens with type = 'bytes'; leave it out",
    ),
    (
        ["begin.optimizer.schedule=cosine", "begin.decay_source={type='x'}"],
        ConfigError,
        r"decay_source: is for the end",
    ),
    (["begin.source.path=absent.jsonl"], DataError, r"absent\.jsonl: no such file"),
    (["begin.start=base"], ConfigError, r"no stage before this one leaves 'base'"),
    (["mid.architecture={}"], ConfigError, r"stage\[1\]\.architecture: stage 'mid' goes on with a model that has one"),
    (["mid.tokenizer={}"], ConfigError, r"stage\[1\]\.tokenizer: .* leave out the recipe's model"),
    (["model=x"], ConfigError, r"stage\[0\]\.tokenizer: stage 'begin' goes on with a model that has one"),
]


@pytest.mark.parametrize(("overrides", "error", "message"), MISTAKES, ids=[m[0][0] for m in MISTAKES])
def test_a_mistake_is_refused_with_its_remedy(
    overrides: list[str], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageRun, "fit", None)
    path = write_recipe(tmp_path, MID.format(folder=tmp_path))
    with pytest.raises(error, match=message):
        run(path, *overrides)


def test_a_model_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrain, "create_model", full)
    with pytest.raises(RunFolderError, match=r"01-begin/start: cannot be written: .*No space.*; make room, then"):
        run(write_recipe(tmp_path))


def test_a_recipe_without_any_model_and_a_source_of_turns_are_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace('type = "pretrain"', 'type = "sft"').split("tokenizer =")[0])
    with pytest.raises(ConfigError, match=r"model: stage 'begin' \(sft\) needs one; .* begin with a pretrain stage"):
        read_recipe(path)
    path = write_recipe(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"question": "6 * 7?", "answer": "42"}\n')
    with pytest.raises(DataError, match=r"begin\.source: '.*train\.jsonl:1' has turns, .* `text`, set plain = true"):
        plan_recipe(read_recipe(path))
    plan = plan_recipe(read_recipe(path, ["begin.source.plain=true"])).stages[0]
    assert plan.texts == ["6 * 7?42"]  # type: ignore[union-attr]
    steps = path.read_text().replace("steps = 20\n", "")
    path.write_text(steps.replace("[[stage]]\n", '[[stage]]\ndecay_source = { type = "x" }\n'))
    with pytest.raises(ConfigError, match="decay_source: of several sources there is no epoch; say how many `steps`"):
        read_recipe(path)
