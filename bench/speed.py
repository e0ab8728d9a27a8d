"""Generation and training beside transformers' own, in one run, alternating; medians, as JSON.

    python bench/speed.py [--model smollm2-135m-instruct] [--repeats 5]

Generation: 8 prompts x 8 completions of exactly 32 tokens. Training: forward and backward of the same 64 sequences. The
peer generates with `model.generate` and trains padded, with the full logits, as plain transformers code does; both in
the same compute type, in this process, with the same allocator settings.
"""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from tutelage.config import Sampling
from tutelage.data.packing import Row, pack
from tutelage.engines import NativeEngine, Request
from tutelage.models import PACKED, Policy, fetch, load_policy, pick_compute, resolve

PROMPTS, COMPLETIONS, NEW_TOKENS = 8, 8, 32


def prompts_of(policy: Policy) -> list[tuple[int, ...]]:
    """Questions of the quickstart's kind."""
    texts = [f"What is {7 + i} + {3 * i}? Answer with just the number." for i in range(PROMPTS)]
    encode = policy.tokenizer.apply_chat_template
    return [
        tuple(encode([{"role": "user", "content": t}], add_generation_prompt=True, return_dict=False)) for t in texts
    ]


def ours_generates(policy: Policy, prompts: list[tuple[int, ...]]) -> list[Row]:
    engine = NativeEngine(policy)
    engine.end_tokens = frozenset()  # every completion has its full length, as the peer's
    requests = [Request(tokens, COMPLETIONS, seed) for seed, tokens in enumerate(prompts)]
    groups = engine.generate(requests, Sampling(max_new_tokens=NEW_TOKENS))
    return [Row(prompts[i], tuple(c.tokens), i) for i, group in enumerate(groups) for c in group]


def peer_generates(policy: Policy, prompts: list[tuple[int, ...]]) -> None:
    width = max(map(len, prompts))
    tokens_BT = torch.tensor([(0,) * (width - len(p)) + p for p in prompts]).repeat_interleave(COMPLETIONS, 0)
    mask_BT = torch.tensor([(0,) * (width - len(p)) + (1,) * len(p) for p in prompts]).repeat_interleave(COMPLETIONS, 0)
    policy.module.set_attn_implementation("sdpa")
    whole_BT = policy.module.generate(
        tokens_BT,
        attention_mask=mask_BT,
        do_sample=True,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
    )
    policy.module.set_attn_implementation(PACKED)
    assert whole_BT.shape == (PROMPTS * COMPLETIONS, width + NEW_TOKENS)


def ours_trains(policy: Policy, rows: list[Row]) -> float:
    total = 0.0
    for batch in pack(rows, 4096):
        loss = -policy.score(batch)[0].sum()
        loss.backward()
        total += loss.item()
    policy.module.zero_grad()
    return total


def peer_trains(policy: Policy, rows: list[Row]) -> float:
    width = max(len(row.context) + len(row.tokens) for row in rows)
    whole = [row.context + row.tokens for row in rows]
    tokens_BT = torch.tensor([t + (0,) * (width - len(t)) for t in whole])
    learned_BT = torch.tensor(
        [[len(row.context) <= t < len(row.context) + len(row.tokens) for t in range(width)] for row in rows]
    )
    mask_BT = torch.tensor([[t < len(w) for t in range(width)] for w in whole])
    policy.module.set_attn_implementation("sdpa")
    total = 0.0
    for part in range(0, len(rows), 16):  # the padded logits of all 64 at once would take gigabytes
        tokens, learned = tokens_BT[part : part + 16], learned_BT[part : part + 16]
        logits_BTV = policy.module(input_ids=tokens, attention_mask=mask_BT[part : part + 16]).logits.float()
        logprobs_BT = logits_BTV[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
        loss = -(logprobs_BT * learned[:, 1:]).sum()
        loss.backward()
        total += loss.item()
    policy.module.set_attn_implementation(PACKED)
    policy.module.zero_grad()
    return total


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(repeats: int, **works: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each, alternating, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            took = seconds(work)
            if repeat:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device("cpu")
    compute = pick_compute("auto", device)
    policy = load_policy(resolve(arguments.model).folder or fetch(arguments.model), compute, device)
    prompts = prompts_of(policy)
    rows = ours_generates(policy, prompts)
    generated = PROMPTS * COMPLETIONS * NEW_TOKENS
    generate = measure(
        arguments.repeats,
        ours=lambda: ours_generates(policy, prompts),
        peer=lambda: peer_generates(policy, prompts),
    )
    gap = abs(ours_trains(policy, rows) / peer_trains(policy, rows) - 1)
    train = measure(arguments.repeats, ours=lambda: ours_trains(policy, rows), peer=lambda: peer_trains(policy, rows))
    print(
        json.dumps(
            {
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "threads": torch.get_num_threads(),
                },
                "torch": torch.__version__,
                "compute": str(compute),
                "generation_tokens_per_second": {k: round(generated / v, 1) for k, v in generate.items()},
                "generation_ratio": round(generate["peer"] / generate["ours"], 2),
                "training_tokens_per_second": {k: round(generated / v, 1) for k, v in train.items()},
                "training_ratio": round(train["peer"] / train["ours"], 2),
                "relative_difference_of_the_losses": gap,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
