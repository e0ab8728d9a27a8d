"""(c) A supervised step against TRL's SFTTrainer: 16 texts of 130 tokens on average, every token learned."""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import Program
from bench.compare import Row, compare, table
from bench.inputs import Writer, model_folder
from bench.settings import BF16, Settings


def run(settings: Settings) -> Iterator[Row]:
    folder = model_folder(settings.model())
    writer = Writer(folder)
    mean = settings.size(129, 11)  # the end token makes it 130
    lengths = writer.lengths(settings.size(16, 4), mean, mean // 2)
    spec = {
        "model": str(folder),
        "texts": [[writer.text(2), writer.text(length - 2)] for length in lengths],
        "lr": 1e-6,
        "seed": 0,
        "compute": "auto",
        "tokens_per_microbatch": 4096,
    }
    ours = Program("ours", "bench.ours.sft", spec)
    for packing in (False, True):
        words = "peer packs" if packing else "peer as shipped, padded"
        case = {"case": f"{len(lengths)} texts of {mean + 1} tokens, {words}", "model": settings.model()}
        peers = [
            variant.program("bench.peer.sft", {**spec, "packing": packing}, settings.peer)
            for variant in BF16
            if settings.peer
        ]
        if peers or not packing:
            yield from compare(case, ours, peers, settings, same_loss=True)


def show(rows: list[Row]) -> str:
    return table(rows, "learned_tokens")
