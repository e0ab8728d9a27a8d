"""One pipeline of nearly every kind of stage, killed inside each and at each boundary: the artefacts are the same."""

from __future__ import annotations

from pathlib import Path

from tests.pipelines.lives import Server, differing, outcome
from tests.pipelines.scenarios import write

_ASKS = """
environment = "few"
questions = 6
rewards = [{ type = "tests.pipelines.rewards:Digits" }]
max_failed_share = 1.0
sampling = { max_new_tokens = 6 }
"""
_RL = """
prompts_per_step = 2
completions_per_prompt = 2
steps = 2
sampling = { max_new_tokens = 5 }
optimizer = { lr = 1e-2 }
"""
# Of each stage: what it is, and inside of what it is killed; None: nothing in it takes time.
STAGES: dict[str, tuple[str, str | None]] = {
    "imitate": ('type = "sft"\nsource = { type = "environment", environment = "few" }\nsteps = 2', "step"),
    "mid": (
        'type = "pretrain"\nsource = { type = "jsonl", path = "FOLDER/texts.jsonl" }\ncontext = 24\n'
        "tokens_per_step = 96\nsteps = 2",
        "step",
    ),
    "judged": (f'type = "label"\nanswers = 3\n{_ASKS}', "sample"),
    "liked": ('type = "reward-model"\nsource = { type = "stage", stage = "judged" }\nsteps = 2', "step"),
    "pleased": (
        'type = "rl"\nenvironment = "few"\nalgorithm = { type = "ppo" }\n'
        f'rewards = [{{ type = "reward-model", models = ["liked"] }}]\n{_RL}',
        "sample",
    ),
    "prefer": ('type = "preference"\nsource = { type = "stage", stage = "judged" }\nsteps = 2', "step"),
    "better": (
        'type = "revise"\nenvironment = "few"\nquestions = 4\nprinciples = ["Be brief."]\n'
        "sampling = { max_new_tokens = 12 }",
        "sample",
    ),
    "revised": ('type = "sft"\nsource = { type = "stage", stage = "better" }\nsteps = 2', "step"),
    "chosen": (
        'type = "rejection"\nenvironment = "few"\nquestions = 6\nanswers = 4\nchoose = "best"\nportion = 4\n'
        'rewards = [{ type = "length", target = 8 }]\n'
        'sampling = { max_new_tokens = 24, stop = ["a", "e", "i", "o", " "] }',
        "sample",
    ),
    "best": ('type = "sft"\nsource = { type = "stage", stage = "chosen" }\nsteps = 2', "step"),
    "smaller": ('type = "prune"\nlayers = 2', None),
    "student": (
        'type = "rl"\nenvironment = "few"\nalgorithm = { type = "distillation" }\nreference = { model = "best" }\n'
        f'rewards = [{{ type = "tests.pipelines.rewards:Digits", weight = 1.0 }}]\nmax_failed_share = 1.0\n{_RL}',
        "step",
    ),
    "score": ('type = "evaluate"\nenvironment = "few"\nsamples = 2\nsampling = { max_new_tokens = 5 }', "sample"),
    "whose": (
        'type = "compare"\nenvironment = "few"\ncontestants = [{ model = "base" }, { model = "student" }]\n'
        'rewards = [{ type = "tests.pipelines.rewards:Digits" }]\nsampling = { max_new_tokens = 5 }',
        "sample",
    ),
    "steer": ('type = "control"\nenvironment = "cart"\nsteps = 2\ncopies = 2\nlength = 8\nhidden = [8]', "step"),
    "played": ('type = "play"\nenvironment = "cart"\nepisodes = 2', None),
}


def test_killed_inside_each_stage_and_at_each_boundary(lives: Server, tmp_path: Path) -> None:
    text = "".join(f'\n[[stage]]\nname = "{name}"\n{keys}\n' for name, (keys, _) in STAGES.items())
    path: Path | None = write(tmp_path, text)
    lives.live(path, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    assert [name.partition("-")[2] for name in expected["artefacts"]] == list(STAGES)
    out = tmp_path / "run"
    for number, (name, (_, inside)) in enumerate(STAGES.items()):
        if inside is not None:
            lives.live(path, out, kill=(name, inside, int(inside == "step"), 1))
            path = None
        lives.live(path, out, kill=(name, ("result", "sealed")[number % 2], 0, 1))
        path = None
        so_far = outcome(out)["artefacts"]  # whose kill it was that changed something
        assert so_far == {stage: expected["artefacts"][stage] for stage in so_far}, name
    lives.live(path, out)
    assert differing(outcome(out), expected) == []
