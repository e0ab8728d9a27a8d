"""(d) What the machine could do, and the share of it that our phases reach.

The decoding limit is the lesser of memory (the weights are read once a step for the whole batch) and arithmetic (2 FLOP
a weight and token); the training limit is 6 FLOP a weight and token. The head counts only where logits are needed, and
a group's prompt once. Left out: attention, reading keys and values, all that is no matrix product. The ceiling is the
best product measured in bf16, of any size, plain or packed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from bench.alternate import Program, alternate
from bench.compare import Row, markdown
from bench.settings import Settings

_BYTES = 2  # of a bf16 weight


def run(settings: Settings) -> list[Row]:
    if not settings.wants("ceilings"):
        return []
    # As much as the weights of SmolLM2 in bf16, which a large cache may hold, and more than any cache holds.
    sizes = [20] if settings.quick else [270, 1500]
    spec = {"least_seconds": 0.01 if settings.quick else 0.3, "megabytes": sizes}
    (ceilings,) = alternate([Program("ours", "bench.ours.roofline", spec)], steps=1, warmup=0)
    return [{"case": "ceilings", "ours": ceilings.result()}]


class Ceilings:
    """The limits that follow from what was measured."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._measured = rows[0]["ours"]

    @property
    def flops(self) -> float:
        """FLOP/s of the best bf16 product."""
        products = [product for product in self._measured["products"] if product["dtype"] == "bfloat16"]
        return 1e9 * max(max(product["gflops"], product.get("packed_gflops", 0.0)) for product in products)

    @property
    def bytes(self) -> float:
        """Bytes a second that can be read, at best."""
        found = self._measured["bandwidth"]
        return 1e9 * max(max(one["read_gb_per_second"], one["copy_gb_per_second"]) for one in found)

    def decode_seconds(self, parameters: Mapping[str, int], batch: int, steps: int) -> float:
        """The least time in which a batch can write so many tokens each."""
        weights = parameters["body"] + parameters["head"]
        return steps * max(weights * _BYTES / self.bytes, 2 * weights * batch / self.flops)

    def products_seconds(self, parameters: Mapping[str, int], batch: int, steps: int) -> float | None:
        """The same by the rates of products of so many rows: the widest one's for the head, the others' for the body.

        None: none of so many rows was measured.
        """
        rates = {
            product["out"]: 1e9 * max(product["gflops"], product.get("packed_gflops", 0.0))
            for product in self._measured["products"]
            if product["dtype"] == "bfloat16" and product["rows"] == batch and product["in"] != product["out"]
        }
        if len(rates) < 2:
            return None
        head = rates.pop(max(rates))
        body = statistics.harmonic_mean(rates.values())
        return 2 * batch * steps * (parameters["body"] / body + parameters["head"] / head)

    def prefill_seconds(self, parameters: Mapping[str, int], tokens: int) -> float:
        return 2 * parameters["body"] * tokens / self.flops

    def training_seconds(self, parameters: Mapping[str, int], positions: int, learned: int) -> float:
        """The least time for forward and backward of so many positions, some of which pay the head."""
        return 6 * (parameters["body"] * positions + parameters["head"] * learned) / self.flops


def show(rows: list[Row]) -> str:
    ceilings = Ceilings(rows)
    measured = rows[0]["ours"]
    header = ["type", "in x out", *[f"{n} rows" for n in dict.fromkeys(p["rows"] for p in measured["products"])]]
    lines = [
        [dtype, f"{width} x {out}", *[_both(product) for product in products]]
        for (dtype, width, out), products in groupby(measured["products"], lambda p: (p["dtype"], p["in"], p["out"]))
    ]
    bands = [
        f"{band['read_gb_per_second']} GB/s read and {band['copy_gb_per_second']} copied over {band['megabytes']} MB"
        for band in measured["bandwidth"]
    ]
    words = f"GFLOP/s, plain / weights packed, {measured['threads']} threads. Memory: {'; '.join(bands)}."
    return f"{words} Ceiling: {ceilings.flops / 1e9:.0f} GFLOP/s.\n\n{markdown(header, lines)}"


def _both(product: Mapping[str, Any]) -> str:
    return f"{product['gflops']:.0f} / {product['packed_gflops']:.0f}" if "packed_gflops" in product else (
        f"{product['gflops']:.0f}")  # fmt: skip


def shares(rows: list[Row], others: Mapping[str, list[Row]]) -> str:
    """What our phases reach of the limits: from the results of grpo, generate and sft."""
    ceilings = Ceilings(rows)
    lines: list[list[object]] = []
    for row in _once(others.get("generate", [])):
        ours = row["ours"]
        tokens = ours["phases"]["tokens"]
        prefill = ceilings.prefill_seconds(ours["parameters"], ours["prompt_tokens"])
        of = ours["parameters"], row["batch"], round(tokens / row["batch"])
        least, products = prefill + ceilings.decode_seconds(*of), ceilings.products_seconds(*of)
        line = _line(f"sampling, {row['case']}", tokens, least, ours["median_seconds"])
        lines.append([*line[:-1], _share(prefill + products, ours["median_seconds"]) if products else "-"])
    for row in _once(others.get("grpo", [])):
        ours, batch = row["ours"], row["prompts"] * row["completions"]
        asked, written = row["prompts"] * row["prompt_tokens"], batch * row["new_tokens"]
        least = ceilings.prefill_seconds(ours["parameters"], asked)
        least += ceilings.decode_seconds(ours["parameters"], batch, row["new_tokens"])
        lines.append(_line(f"GRPO sampling, {row['case']}", written, least, ours["phases"]["generate_seconds"]))
        least = ceilings.training_seconds(ours["parameters"], asked + written, written)
        lines.append(_line(f"GRPO learning, {row['case']}", written, least, ours["phases"]["learn_seconds"]))
    for row in _once(others.get("sft", [])):
        ours, learned = row["ours"], row["ours"]["learned_tokens"]
        least = ceilings.training_seconds(ours["parameters"], learned, learned)
        lines.append(_line(f"SFT, {row['case']}", learned, least, ours["median_seconds"]))
    return markdown(["phase", "limit tok/s", "measured tok/s", "share", "of products of so many rows"], lines)


def _once(rows: Sequence[Row]) -> list[Row]:
    """One row of ours for each case: ours was measured beside every variant of the peer; the first one counts."""
    return list({row["case"]: row for row in reversed(rows) if "ours" in row}.values())[::-1]


def _line(name: str, tokens: float, least: float, took: float) -> list[object]:
    return [name, tokens / least, tokens / took, _share(least, took), "-"]


def _share(least: float, took: float) -> str:
    return f"{100 * least / took:.0f} %"
