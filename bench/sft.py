"""(c) A supervised step against TRL's SFTTrainer: 16 texts of 130 tokens on average, every token learned.

All weights, or LoRA on both sides: the peer's is peft's, of the same rank on the same layers.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import Program
from bench.compare import Row, compare, table
from bench.inputs import Writer, model_folder
from bench.settings import BOTH, Settings

LORA = {"rank": 16, "alpha": 32}  # on all linear layers


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
    whole = f"{len(lengths)} texts of {mean + 1} tokens"
    for words, packing, lora in (
        ("peer as shipped, padded", False, None),
        ("peer packs", True, None),
        ("LoRA, peer padded", False, LORA),
    ):
        case = {"case": f"{whole}, {words}", "model": settings.model()}
        asked = {**spec, "packing": packing, "lora": lora}
        variants = BOTH if settings.peer else ()
        peers = [variant.program("bench.peer.sft", asked, settings.peer) for variant in variants]
        if peers or not packing:
            yield from compare(case, Program("ours", "bench.ours.sft", asked), peers, settings, same_loss=True)


def show(rows: list[Row]) -> str:
    return table(rows, "learned_tokens")
