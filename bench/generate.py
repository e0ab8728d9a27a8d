"""(b) Sampling alone against transformers' `generate`, in bf16. Distinct prompts, so that nothing can be shared."""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import TUNED, Program
from bench.compare import Row, compare, table
from bench.inputs import model_folder, prompts
from bench.settings import MODEL, Settings


def run(settings: Settings) -> Iterator[Row]:
    folder = model_folder(settings.model())
    tokens = settings.size(64, 6)
    for batch in (4, 8) if settings.quick else (8, 32, 64):
        for count in (1, settings.size(8, 2)):
            shared = "distinct prompts" if count == 1 else f"{count} completions a prompt"
            spec = {
                "model": str(folder),
                "prompts": prompts(folder, batch // count, tokens),
                "count": count,
                "new_tokens": tokens,
                "compute": "auto",
            }
            case = {
                "case": f"batch {batch}, {shared}",
                "model": settings.model(MODEL),
                "batch": batch,
                "shared": count > 1,
            }
            peers = [
                Program(
                    name, "bench.peer.generate", {**spec, "precision": "bf16", "cache": cache}, settings.peer, extra
                )
                for name, cache, extra in (
                    ("peer: default cache", None, {}),
                    ("peer: static cache", "static", {}),
                    ("peer: default cache, allocator tuned", None, {"GLIBC_TUNABLES": TUNED}),
                )
                if settings.peer and (count == 1 or (cache is None and not extra))
            ]
            ours = Program("ours", "bench.ours.generate", spec)
            yield from compare(case, ours, peers, settings, tokens=batch * tokens)


def show(rows: list[Row]) -> str:
    return table(rows, "tokens")
