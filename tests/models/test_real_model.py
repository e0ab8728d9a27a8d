"""The same promises on the real SmolLM2-135M-Instruct; skipped where it has not been fetched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.data.packing import Row, pack
from tutelage.engines import NativeEngine, Request
from tutelage.environments import build_environment
from tutelage.models import PACKED, Policy, load_policy, resolve

FOLDER = resolve("smollm2-135m-instruct").folder
pytestmark = pytest.mark.skipif(FOLDER is None, reason="tutelage models fetch smollm2-135m-instruct")


@pytest.fixture(scope="module")
def policy() -> Policy:
    assert FOLDER is not None
    return load_policy(FOLDER, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def prompts(policy: Policy) -> list[tuple[int, ...]]:
    environment = build_environment({"type": "arithmetic"}, "environments.sums")
    return [tuple(render_prompt(policy.tokenizer, prompt)) for prompt in environment.prompts("test")[:8]]


def test_prompts_are_the_templates_own(policy: Policy, prompts: list[tuple[int, ...]]) -> None:
    environment = build_environment({"type": "arithmetic"}, "environments.sums")
    for prompt, tokens in zip(environment.prompts("test"), prompts, strict=False):
        asked = [{"role": "user", "content": prompt.messages[0].content}]
        expected = policy.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        assert list(tokens) == expected


def test_greedy_text_is_generates_own(policy: Policy, prompts: list[tuple[int, ...]]) -> None:
    groups = NativeEngine(policy).generate(
        [Request(tokens, 1, 0) for tokens in prompts], Sampling(temperature=0.0, max_new_tokens=16)
    )
    policy.module.set_attn_implementation("sdpa")
    for tokens, (ours,) in zip(prompts, groups, strict=True):
        whole = policy.module.generate(
            torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens)), do_sample=False, max_new_tokens=16
        )
        assert whole[0, len(tokens) :].tolist() == ours.tokens
    policy.module.set_attn_implementation(PACKED)


def test_the_learner_scores_what_the_sampler_wrote_alike(policy: Policy, prompts: list[tuple[int, ...]]) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.95, max_new_tokens=12)
    requests = [Request(tokens, 4, seed) for seed, tokens in enumerate(prompts)]
    groups = NativeEngine(policy, slots=10).generate(requests, sampling)
    rows = [Row(prompts[i], tuple(c.tokens), i) for i, group in enumerate(groups) for c in group]
    with torch.no_grad():
        scored = torch.cat([policy.score(batch, sampling)[0] for batch in pack(rows, 600)])
    sampled = np.concatenate([c.logprobs for group in groups for c in group])
    np.testing.assert_allclose(scored.numpy(), sampled, atol=1e-4)
