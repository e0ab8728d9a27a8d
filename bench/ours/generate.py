"""Calls of our engine: each prompt `count` times, every completion at its full length."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

from pathlib import Path

import torch

from bench.ours.facts import facts_of
from bench.pace import Pace, read_spec
from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.engines import Request, build_engine
from tutelage.models import load_policy, pick_compute
from tutelage.types import Prompt


def main() -> None:
    pace, spec = Pace(), read_spec()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = load_policy(Path(spec["model"]), pick_compute(spec["compute"], device), device)
    engine = build_engine("auto", policy)
    engine.end_tokens = frozenset()
    prompts = [tuple(render_prompt(policy.tokenizer, Prompt(p["id"], text=p["text"]))) for p in spec["prompts"]]
    sampling = Sampling(max_new_tokens=spec["new_tokens"])
    pace.note(**facts_of(policy), engine=engine.name, prompt_tokens=sum(map(len, prompts)))
    seed, going = 0, pace.ready()
    while going:
        requests = [Request(tokens, spec["count"], seed + i) for i, tokens in enumerate(prompts)]
        groups = engine.generate(requests, sampling)
        seed += len(prompts)
        going = pace.report(tokens=sum(len(completion.tokens) for group in groups for completion in group))
    pace.finish()


if __name__ == "__main__":
    main()
