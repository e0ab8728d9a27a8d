"""(c) A step of DPO against TRL's DPOTrainer: 16 pairs, prompts and answers of 64 tokens, beta 0.1.

Our preference stage scores all answers once by the reference, before its first step. The peer does so in every step as
it is shipped, and beforehand if it is told to: then both do the same in a step. Ours holds a pair's prompt once.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import Program
from bench.compare import Row, compare, table
from bench.inputs import Writer, model_folder
from bench.settings import BOTH, Settings


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
    ours = Program("ours", "bench.ours.preference", spec)
    variants = BOTH if settings.peer else ()
    for words, beforehand in (("in every step", False), ("beforehand", True)):
        case = {
            "case": f"{len(spec['pairs'])} pairs of {tokens} + {tokens} tokens, the peer's reference {words}",
            "model": settings.model(),
        }
        asked = {**spec, "reference_beforehand": beforehand}
        peers = [variant.program("bench.peer.dpo", asked, settings.peer) for variant in variants]
        if peers or beforehand:
            yield from compare(case, ours, peers, settings, same_loss=True)


def show(rows: list[Row]) -> str:
    return table(rows, "learned_tokens")
