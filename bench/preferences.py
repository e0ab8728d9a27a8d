"""(c) A step of DPO against TRL's DPOTrainer: 16 pairs, prompts and answers of 64 tokens, beta 0.1.

Both compute the reference's log-probabilities in every step, TRL's default. Ours has no stage for it yet: the program
puts the step together out of the library's pieces. It holds the prompt of a pair once, the peer twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import Program
from bench.compare import Row, compare, table
from bench.inputs import Writer, model_folder
from bench.settings import BF16, Settings


def run(settings: Settings) -> Iterator[Row]:
    folder = model_folder(settings.model())
    writer = Writer(folder)
    tokens = settings.size(64, 6)
    spec = {
        "model": str(folder),
        "pairs": [[writer.text(tokens) for _ in range(3)] for _ in range(settings.size(16, 3))],
        "lr": 1e-6,
        "seed": 0,
        "compute": "auto",
        "tokens_per_microbatch": 4096,
    }
    case = {"case": f"{len(spec['pairs'])} pairs of {tokens} + {tokens} tokens", "model": settings.model()}
    ours = Program("ours", "bench.ours.dpo", spec)
    variants = BF16 if settings.peer else ()
    peers = [variant.program("bench.peer.dpo", spec, settings.peer) for variant in variants]
    yield from compare(case, ours, peers, settings, same_loss=True)


def show(rows: list[Row]) -> str:
    return table(rows, "learned_tokens")
