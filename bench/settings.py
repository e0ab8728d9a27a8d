"""What a run of the benchmarks was asked for, and the peer's variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.alternate import TUNED, Program
from bench.machine import describe_machine

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of `python -m bench run`."""

    peer: str | None  # the interpreter that has TRL; None: ours alone
    steps: int = 5
    warmup: int = 1
    quick: bool = False  # a random model of two layers and small sizes: does everything work?
    case: str = ""  # only the cases whose name holds this

    def model(self, name: str = MODEL) -> str:
        return "tiny" if self.quick else name

    def wants(self, case: str) -> bool:
        return self.case in case

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the peer."""

    precision: str  # bf16: the weights are; autocast: bf16 over fp32 weights; fp32
    tuned: bool = False  # glibc's allocator keeps its blocks, in huge pages
    gradient_checkpointing: bool = True  # TRL's default

    @property
    def label(self) -> str:
        kept = "" if self.gradient_checkpointing else ", activations kept"
        return self.precision + (", allocator tuned" if self.tuned else "") + kept

    def program(self, module: str, spec: dict[str, Any], python: str) -> Program:
        spec = {**spec, "precision": self.precision, "gradient_checkpointing": self.gradient_checkpointing}
        return Program(f"peer: {self.label}", module, spec, python, {"GLIBC_TUNABLES": TUNED} if self.tuned else {})


# The peer's quickest precision: where the processor does not multiply bf16 in hardware, that takes many times as long.
PRECISION = "bf16" if {"avx512_bf16", "amx_bf16"} & set(describe_machine()["flags"]) else "fp32"

# Its default keeps no activations, which is slower and takes less memory.
SHIPPED = (Variant(PRECISION),)
BOTH = (*SHIPPED, Variant(PRECISION, tuned=True, gradient_checkpointing=False))
EVERY = (*BOTH, *(Variant(other) for other in ("bf16", "autocast", "fp32") if other != PRECISION))
