"""The stage that chooses positions: its entropies are the model's, its choice is as declared, its texts are apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.corpora import PLAIN, POSITIONS, TEXTS, write, write_echoes
from tests.tiny import tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.data.chat import encode_plain
from tutelage.data.positions import Position, read_positions
from tutelage.errors import ConfigError, DataError
from tutelage.models import load_policy
from tutelage.pipelines import plan_recipe, run_recipe, run_status
from tutelage.training import Quiet


def positions(path: Path, *overrides: str, out: str = "run") -> list[Position]:
    run_recipe(read_recipe(path, overrides), path.parent / out, Quiet())
    return read_positions(path.parent / out / "stages/01-look/prompts.jsonl")


def entropy(folder: Path, tokens: tuple[int, ...], top: int) -> float:
    """Of the token after these, by transformers' own forward of them alone."""
    module = load_policy(folder / "tiny", torch.float32, torch.device("cpu")).module
    module.set_attn_implementation("eager")
    probs_V = module(input_ids=torch.tensor([tokens])).logits[0, -1].softmax(-1)
    kept = probs_V.topk(top).values if top else probs_V
    return torch.distributions.Categorical(probs=kept).entropy().item()


@pytest.mark.parametrize("top", [0, 16, 1000])
def test_the_entropy_is_that_of_the_next_token(tmp_path: Path, top: int) -> None:
    found = positions(write(tmp_path, POSITIONS), f"look.top={top}", "look.tokens_per_microbatch=60")
    for position in [*found[:6], *found[-6:]]:
        expected = entropy(tmp_path, position.context_tokens, 0 if top == 1000 else top)
        assert position.entropy == pytest.approx(expected, abs=2e-4)


def test_what_is_kept_is_as_it_stands_in_the_text(tmp_path: Path) -> None:
    found = positions(write(tmp_path, POSITIONS))
    tokenizer = tiny_tokenizer()
    assert [position.split for position in found] == ["train"] * 24 + ["test"] * 12
    assert len({position.id for position in found}) == 36
    for position in found:
        assert any(position.prompt + position.answer in text for text in TEXTS)
        assert encode_plain(tokenizer, position.prompt) == list(position.context_tokens)
        assert 4 <= len(position.context_tokens) <= 24 - 3
        assert tokenizer.decode([*position.context_tokens, *position.tokens]).startswith(
            position.prompt + position.answer
        )
        assert len(position.tokens) == 3
    train, test = ({p.id.split("/")[1].split(".")[0] for p in found if p.split == split} for split in ("train", "test"))
    assert len(train) > 8
    assert len(test) <= 3  # a tenth of the texts
    result = json.loads((tmp_path / "run/stages/01-look/result.json").read_text())
    assert (result["texts"], result["train"], result["test"]) == (30, 24, 12)
    assert result["entropy"] == pytest.approx(sum(p.entropy for p in found) / 36)


def test_the_choice_is_the_seeds_and_the_entropys(tmp_path: Path) -> None:
    path = write(tmp_path, POSITIONS)
    first = positions(path)
    assert positions(path, out="again") == first
    assert positions(path, "seed=1", out="other") != first
    middle = sorted(position.entropy for position in first)[18]
    high = positions(path, f"look.least={middle}", "look.test_positions=4", out="high")
    assert all(position.entropy >= middle - 1e-4 for position in high)
    low = positions(path, f"look.most={middle}", "look.test_positions=4", out="low")
    assert all(position.entropy <= middle + 1e-4 for position in low)
    few = positions(path, "look.per_text=1", "look.test_positions=3", out="few")
    assert len({position.id.split(".")[0] for position in few}) == len(few)


def test_held_out_texts_may_be_others_and_are_never_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, POSITIONS)
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:10]))
    found = positions(path, f'look.test={{type="jsonl", path="{tmp_path}/test.jsonl"}}')
    for position in found:
        inside = [i for i, text in enumerate(TEXTS) if position.prompt + position.answer in text]
        assert any((i < 10) == (position.split == "test") for i in inside)
    result = json.loads((tmp_path / "run/stages/01-look/result.json").read_text())
    assert result["texts"] == 30  # the ten are dropped from the source


def test_long_texts_are_looked_at_in_pieces(tmp_path: Path) -> None:
    """Positions of later pieces do not see the earlier ones."""
    found = positions(write(tmp_path, POSITIONS))
    later = [position for position in found if not any(text.startswith(position.prompt) for text in TEXTS)]
    assert later
    assert all("�" not in position.prompt + position.answer for position in found)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["look.positions=9999"], r"look: positions = 9999, and only \d+ can be had: 27 texts of \d+ tokens have \d+"),
        (["look.test_positions=999"], "look: test_positions = 999, .* Lower test_positions, min_context, horizon, or"),
        (["look.per_text=1", "look.positions=28"], "only 27 can be had: .* of which per_text = 1 in each count"),
        (["look.context=300", "look.min_context=290"], "look.context: 300 is above the model's own, 256; lower it"),
    ],
)
def test_a_corpus_that_is_too_short_is_refused_before_weights_are_loaded(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        plan_recipe(read_recipe(write(tmp_path, POSITIONS), overrides))


def test_too_few_positions_of_that_entropy_are_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"only 0 can be had: .*; 0 with an entropy of 2\.7725 or more, 0 of .* horizon, least, or give"
    ):
        positions(write(tmp_path, POSITIONS), "look.least=2.7725")  # the logarithm of 16 is 2.7726
    assert not (tmp_path / "run/stages/01-look/prompts.jsonl").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["look.min_context=22"], "context: 24 tokens do not hold min_context = 22 and horizon = 3; raise it"),
        (["look.most=0.5", "look.least=0.5"], r"most: 0\.5 leaves no entropy above least = 0\.5"),
        (["look.tokens_per_microbatch=20"], "tokens_per_microbatch: must hold a piece; set it to context = 24 or more"),
        (
            ['look.test={type="jsonl", path="x"}', "look.test_share=0.5"],
            "test_share: has no use beside a test source",
        ),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_recipe(write(tmp_path, POSITIONS), overrides)


def test_a_single_text_and_turns_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, POSITIONS)
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": TEXTS[0]}) + "\n")
    with pytest.raises(DataError, match=r"look\.source: 1 different texts cannot be split; give a `test` source"):
        plan_recipe(read_recipe(path))
    (tmp_path / "texts.jsonl").write_text(json.dumps({"question": "a", "answer": "b"}) + "\n")
    with pytest.raises(DataError, match=r"look\.source: .* has turns"):
        plan_recipe(read_recipe(path))


def test_an_environment_names_a_stage_before_its_user_that_leaves_prompts(tmp_path: Path) -> None:
    def refused(stages: str, words: str = 'stage = "look"') -> str:
        with pytest.raises(ConfigError) as error:
            plan_recipe(read_recipe(write(tmp_path, stages, words)))
        return str(error.value)

    unknown = refused(POSITIONS + PLAIN, 'stage = "lock"')
    assert (
        "environments.words.stage: no stage before 'at-once' leaves prompts as 'lock': did you mean 'look'?" in unknown
    )
    late = refused(PLAIN + POSITIONS)
    assert "stage[0].environment (environments.words.stage): 'look' comes after this stage" in late
    first = '[[stage]]\nname = "look"\ntype = "sft"\nsource = { type = "jsonl", path = "TEXTS" }\nsteps = 1\n'
    assert "wanted is a stage that leaves: prompts; 'look' (sft) leaves: policy" in refused(first + PLAIN)
    write_echoes(tmp_path / "prompts.jsonl")
    elsewhere = f'path = "{tmp_path / "prompts.jsonl"}"'
    stages = POSITIONS + first.replace("look", "more") + PLAIN.replace("[[stage]]", '[[stage]]\nsplit = "train"')
    assert "nothing after 'look' uses the prompts that it leaves" in refused(stages, elsewhere)


def test_a_mixture_reads_what_its_parts_read(tmp_path: Path) -> None:
    top = "[environments.sums]\ntype = 'arithmetic'\ntest_questions = 5\ntrain_questions = 5\nmaximum = 9\n"
    top += "[environments.both]\ntype = 'mixture'\nparts = [{ environment = 'sums' }, { environment = 'words' }]\n"
    stage = PLAIN.replace('"predict"', '"evaluate"\nsampling = { max_new_tokens = 3, temperature = 0.0 }')
    path = write(tmp_path, POSITIONS + stage.replace('"words"', '"both"'), 'stage = "look"', top)
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("the questions that stage 'look' will leave of both/test" in line for line in lines)
    assert any("reads look; leaves report" in line for line in lines)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/02-at-once/result.json").read_text())
    assert {name: numbers["n"] for name, numbers in result["parts"].items()} == {"sums": 5, "words": 12}


def test_only_what_reads_positions_runs_again_when_these_change(tmp_path: Path) -> None:
    path = write(tmp_path, POSITIONS + PLAIN)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())

    def would(*overrides: str) -> dict[str, Any]:
        found = run_status(tmp_path / "run", read_recipe(path, overrides))
        return {one.stage.name: f"{one.decision.do}: {one.decision.why}" for one in found}

    assert {why.partition(":")[0] for why in would().values()} == {"stands"}
    assert would("look.positions=23") == {
        "look": "runs: positions 24 -> 23",
        "at-once": "runs: its input 'look' is made anew",
    }
    assert would("environments.words.least=0.1")["at-once"] == "runs: environment.least null -> 0.1"
    texts = (tmp_path / "texts.jsonl").read_text()
    (tmp_path / "texts.jsonl").write_text(texts.replace("What is 7", "What was 7"))
    assert would()["look"] == "runs: its data are others"
