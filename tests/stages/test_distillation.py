"""On-policy distillation, its teachers, models by name, and smaller students."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, ModelError
from tutelage.models.loading import save
from tutelage.models.prune import kept_layers
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.training import Quiet

STUDENT = """
[[stage]]
name = "student"
type = "rl"
environment = "sums"
algorithm = { type = "distillation" }
reference = { model = "teacher" }
steps = 12
prompts_per_step = 6
completions_per_prompt = 4
sampling = { max_new_tokens = 6 }
optimizer = { lr = 1e-2 }
checkpoints = { every = 5 }
"""
SAMPLED = "student.algorithm={type='distillation', kl_in='reward', kl_estimator='k1'}"


def write(folder: Path, stages: str = STUDENT) -> Path:
    """A recipe with a teacher of other weights than the student's."""
    torch.manual_seed(99)
    teacher = tiny_model()
    with torch.no_grad():
        teacher.lm_head.weight.mul_(3.0)
        for weight in teacher.model.layers.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    save(teacher, tiny_tokenizer(), folder / "teacher")
    path = folder / "recipe.toml"
    path.write_text(
        recipe_text(tiny_model_folder(folder / "tiny"), stages, f'models = {{ teacher = "{folder}/teacher" }}')
    )
    return path


def kl(out: Path, stage: str = "student") -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["kl"] for row in rows if row["stage"] == stage]


@pytest.mark.parametrize(
    "overrides", [[], [SAMPLED, "student.steps=40", "student.completions_per_prompt=12"]], ids=["exact", "sampled"]
)
def test_the_student_comes_nearer_to_its_teacher(tmp_path: Path, overrides: list[str]) -> None:
    run_recipe(read_recipe(write(tmp_path), overrides), tmp_path / "run", Quiet())
    seen = kl(tmp_path / "run")
    assert fmean(seen[-5:]) < 0.6 * fmean(seen[:3]), seen


def test_a_run_that_stops_goes_on_to_the_same_student(tmp_path: Path) -> None:
    class Stops(Quiet):
        def step(self, step: int, numbers: object) -> None:
            if step == 8:
                raise KeyboardInterrupt

    path = write(tmp_path)
    run_recipe(read_recipe(path), tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(read_recipe(path), tmp_path / "cut", Stops())
    resume_run(tmp_path / "cut", Quiet())
    one, other = (tmp_path / name / "stages/01-student/model/model.safetensors" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_a_reward_beside_a_teacher_is_any_algorithm_with_its_anchor_there(tmp_path: Path) -> None:
    overrides = ["student.algorithm={type='grpo', kl=0.5}", "student.steps=2"]
    run_recipe(read_recipe(write(tmp_path), overrides), tmp_path / "run", Quiet())
    assert kl(tmp_path / "run")[0] > 0.1  # against itself it would be 0


def test_a_smaller_student_begins_as_some_of_the_teachers_layers(tmp_path: Path) -> None:
    stages = """
[[stage]]
name = "small"
type = "prune"
layers = 2
start = "teacher"
""" + STUDENT.replace('type = "rl"', 'type = "rl"\nstart = "small"').replace("steps = 12", "steps = 1")
    torch.manual_seed(5)
    deep = tiny_model(num_hidden_layers=5)
    path = write(tmp_path, stages)
    save(deep, tiny_tokenizer(), tmp_path / "teacher")
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "run/stages/01-small/model")
    tokens = torch.arange(20)[None] % VOCAB
    deep.model.layers = torch.nn.ModuleList([deep.model.layers[0], deep.model.layers[4]])
    deep.model.layers[1].self_attn.layer_idx = 1
    torch.testing.assert_close(small(tokens).logits, deep.eval()(tokens, use_cache=False).logits)
    assert small.config.num_hidden_layers == 2
    with pytest.raises(ModelError, match="has 5 layers, so 5 of them cannot be kept; set `layers` lower"):
        plan_recipe(read_recipe(path, ["small.layers=5"]))


def test_layers_are_kept_at_even_distances() -> None:
    assert kept_layers(30, 2) == [0, 29]
    assert kept_layers(30, 15) == [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29]
    assert kept_layers(4, 3) in ([0, 2, 3], [0, 1, 3])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student.reference={model='techer'}"], r"student\.reference\.model: 'techer' is neither .* mean 'teacher'\?"),
        (["student.reference={}"], r"student\.reference: 'distillation' learns from a teacher; name it"),
        (["student.algorithm={type='rloo'}"], r"student\.reference: 'rloo' has no reference here; set algorithm\.kl"),
        (["student.reference={model='teacher', every=3}"], r"give only one of every, ema and model"),
        (["student.start='nobody'"], r"stage\[0\]\.start: no stage before this one leaves 'nobody'"),
        (["models={student='x'}"], r"models\.student: a stage, or the recipe's own model, has that name"),
        (["student.algorithm={type='distillation', kl=0}"], r"kl: .*greater than 0"),
        (["student.scale_rewards=true"], r"student\.scale_rewards: 'distillation' .* reads no reward; leave it out"),
        (
            ["student.sampling.top_p=0.9"],
            r"student\.sampling: an exact KL is one of whole distributions.*leave them out",
        ),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_recipe(read_recipe(write(tmp_path), overrides))


def test_a_teacher_with_other_tokens_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    save(tiny_model(vocab_size=len(tokenizer)), tokenizer, tmp_path / "teacher")
    with pytest.raises(
        ModelError, match=r"student\.reference\.model: the tokenizer of 'teacher' is another .* by text"
    ):
        run_recipe(read_recipe(path), tmp_path / "run", Quiet())
