"""The stage that predicts next tokens: the likeliest is transformers' own, at once and after a thought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.corpora import AFTER, PLAIN, POSITIONS, write, write_echoes
from tests.tiny import tiny_tokenizer
from tutelage.config import Sampling, read_recipe
from tutelage.data.chat import encode_plain
from tutelage.data.positions import Position, read_positions, write_positions
from tutelage.engines import build_engine
from tutelage.environments import Corpus
from tutelage.errors import ConfigError, DataError, GateError
from tutelage.models import load_policy
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.report.build import outcome
from tutelage.rollouts import roll_out
from tutelage.seeds import derive_seed
from tutelage.training import Quiet

TOKENIZER = tiny_tokenizer()


def result(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "run/stages" / stage / "result.json").read_text())


class Direct:
    """The model's own forward of one sequence."""

    def __init__(self, folder: Path) -> None:
        self.module = load_policy(folder / "tiny", torch.float32, torch.device("cpu")).module
        self.module.set_attn_implementation("eager")

    @torch.no_grad()
    def __call__(self, before: list[int], token: int) -> tuple[float, float]:
        logits_V = self.module(input_ids=torch.tensor([before])).logits[0, -1]
        return float(logits_V.argmax().item() == token), -logits_V.log_softmax(-1)[token].item()


def to_be_right_half_the_time(folder: Path) -> None:
    """Positions whose next token is, for every other one, what the model finds likeliest."""
    path, direct, some = folder / "run/stages/01-look/prompts.jsonl", Direct(folder), list[Position]()
    for number, one in enumerate(read_positions(path)):
        logits_V = direct.module(input_ids=torch.tensor([one.context_tokens])).logits[0, -1]
        token = int(logits_V.argmax()) if number % 2 else one.tokens[0]
        some.append(
            Position(
                id=one.id,
                split=one.split,
                prompt=one.prompt,
                answer=one.answer,
                ends=one.ends,
                tokens=(token, *one.tokens[1:]),
                context_tokens=one.context_tokens,
                entropy=number / 20,
            )
        )
    write_positions(folder / "half.jsonl", some)


def half(folder: Path) -> Path:
    run_recipe(read_recipe(write(folder, POSITIONS)), folder / "run", Quiet())
    to_be_right_half_the_time(folder)
    return write(folder, PLAIN + AFTER, f'path = "{folder / "half.jsonl"}"\nplain = true')


def test_the_likeliest_token_is_right_or_wrong(tmp_path: Path) -> None:
    path = half(tmp_path)
    run_recipe(read_recipe(path, ["at-once.tokens_per_microbatch=50", "name=other"]), tmp_path / "other", Quiet())
    found = json.loads((tmp_path / "other/stages/01-at-once/result.json").read_text())
    direct = Direct(tmp_path)
    asked = [one for one in read_positions(tmp_path / "half.jsonl") if one.split == "test"]
    expected = {one.id: direct(list(one.context_tokens), one.tokens[0]) for one in asked}
    assert found["scores"] == {name: [right] for name, (right, _) in expected.items()}
    assert 0.4 < found["summary"]["score"]["mean"] < 0.7
    nats = sum(nats for _, nats in expected.values()) / len(expected)
    assert found["summary"]["nats"]["mean"] == pytest.approx(nats, abs=1e-4)
    assert found["summary"]["score"]["low"] < found["summary"]["score"]["mean"] < found["summary"]["score"]["high"]
    assert found["above"].keys() == {"0.5", "1", "1.5"}
    harder = [expected[one.id][0] for one in asked if one.entropy > 1.5]
    assert 0 < len(harder) < len(asked)
    assert found["above"]["1.5"]["mean"] == pytest.approx(sum(harder) / len(harder))
    assert found["above"]["1.5"]["n"] == len(harder)
    assert found["components"]["accuracy above 1.5"] == found["above"]["1.5"]["mean"]


def test_after_a_thought_it_is_predicted_from_the_thoughts_own_tokens(tmp_path: Path) -> None:
    path = half(tmp_path)
    run_recipe(read_recipe(path, ["name=other"]), tmp_path / "other", Quiet())
    found = json.loads((tmp_path / "other/stages/02-after-thoughts/result.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "other/samples.jsonl").read_text().splitlines()]
    told = {(row["prompt_id"], row["index"]): row for row in rows}
    policy = load_policy(tmp_path / "tiny", torch.float32, torch.device("cpu"))
    prompts = Corpus(path=tmp_path / "half.jsonl", plain=True).prompts("test")
    seed = derive_seed(derive_seed(0, "after-thoughts"), "thoughts")
    groups = roll_out(build_engine("auto", policy), TOKENIZER, prompts, 2, Sampling(max_new_tokens=5), seed)
    direct, closed = Direct(tmp_path), encode_plain(TOKENIZER, "</think>")
    for group in groups:
        for sample in group.samples:
            row, thought = told[sample.prompt_id, sample.index], sample.tokens
            if sample.finish == "stop":
                thought = thought[:-1]
            right, nats = direct([*group.prompt_tokens, *thought, *closed], group.prompt.meta["tokens"][0])
            assert row["text"] == sample.text
            assert row["reward"] == row["rewards"]["right"] == right == found["scores"][sample.prompt_id][sample.index]
            assert row["rewards"]["logprob"] == pytest.approx(-nats, abs=1e-4)
    assert len(rows) == 24


def test_both_stand_in_one_table_of_the_report_with_a_paired_test(tmp_path: Path) -> None:
    path = half(tmp_path)
    run_recipe(read_recipe(path, ["name=other"]), tmp_path / "other", Quiet())
    assert outcome(tmp_path / "other").startswith("Accuracy on 12 held-out questions")
    page = (tmp_path / "other/report.html").read_text()
    assert "the likeliest next token" in page
    assert "accuracy above 0.5" in page
    assert "McNemar" in page or "paired permutation test" in page


def test_a_gate_asks_for_the_accuracy(tmp_path: Path) -> None:
    write_echoes(tmp_path / "prompts.jsonl")
    words = f'path = "{tmp_path / "prompts.jsonl"}"\nplain = true'
    path = write(tmp_path, PLAIN.replace("[[stage]]", '[[stage]]\nsplit = "train"\nrequire = "accuracy >= 0.9"'), words)
    with pytest.raises(GateError, match=r"'accuracy >= 0\.9' is not met"):
        run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    for gate in ("nats < 99", "accuracy above 0.5 >= 0"):
        run_recipe(read_recipe(path, [f'at-once.require="{gate}"']), tmp_path / "run", Quiet())
    with pytest.raises(GateError, match=r"cannot be judged: the stage found no accuracy above 1\.5"):
        run_recipe(read_recipe(path, ['at-once.require="accuracy above 1.5 >= 0"']), tmp_path / "run", Quiet())
    with pytest.raises(ConfigError, match="leaves no figure 'acuracy': did you mean 'accuracy'"):
        read_recipe(path, ['at-once.require="acuracy > 0"'])


def test_mistakes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN, top="[environments.sums]\ntype = 'arithmetic'")
    with pytest.raises(ConfigError, match=r"at-once\.environment: .* type 'corpus', and 'sums' is 'arithmetic'"):
        plan_recipe(read_recipe(path, ["at-once.environment=sums"]))
    write_echoes(tmp_path / "prompts.jsonl")
    path = write(tmp_path, AFTER, f'path = "{tmp_path / "prompts.jsonl"}"\nplain = true')
    with pytest.raises(DataError, match=r"none of its 0 positions of the split 'test'"):
        plan_recipe(read_recipe(path))
    long = ["after-thoughts.split=train", "after-thoughts.thought.sampling.max_new_tokens=245"]
    with pytest.raises(DataError, match=r"thoughts\.thought: a prompt of 7 tokens, .* max_new_tokens to 241 or less"):
        plan_recipe(read_recipe(path, long))


def test_a_reasoner_is_evaluated_on_the_same_positions(tmp_path: Path) -> None:
    """RPT's accuracy: the environment's own score in an evaluate stage."""
    stage = PLAIN.replace('"predict"', '"evaluate"\nsampling = { max_new_tokens = 4, temperature = 0.0 }')
    path = write(tmp_path, POSITIONS + stage, 'stage = "look"')
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    found = result(tmp_path, "02-at-once")
    asked = [one.id for one in read_positions(tmp_path / "run/stages/01-look/prompts.jsonl") if one.split == "test"]
    assert list(found["scores"]) == asked
    assert found["summary"]["score"]["mean"] == 0.0  # a random model boxes nothing
    rows = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert all("The text:" in row["prompt"] for row in rows)


@pytest.mark.parametrize("what", ["pieces of texts", "thoughts"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, what: str) -> None:
    class Killed(Quiet):
        def progress(self, done: int, total: int, what_of: str) -> None:
            if what_of == what and done == total:
                raise KeyboardInterrupt

    recipe = read_recipe(write(tmp_path, POSITIONS + AFTER))
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    for name in ("stages/01-look/prompts.jsonl", "stages/02-after-thoughts/result.json", "samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
