"""The memory of a stage by what takes it, in bytes: all of it is there at the end of a step's backward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.data.packing import Row, pack
from tutelage.engines import Request
from tutelage.engines.native import CACHE_BYTES, SLOTS, most_pages
from tutelage.engines.pages import PAGE
from tutelage.functional.logprobs import largest_chunk
from tutelage.planning.demand import Asked, Demand

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's numbers, as memory counts them."""

    all: int  # parameters of the module
    trained: int  # of which so many have masters of their own, or are them
    compute: int  # bytes of a number that is computed with
    width: int  # of the residual stream
    layers: int
    vocabulary: int
    keys: int  # numbers that are kept of a token in each layer: keys and values
    adapted: bool = False  # are the trained ones factors beside the module's?
    checkpointed: bool = False  # are the layers computed again in the backward pass?
    packed: bool = False  # does the sampler hold its own packed copy?

    @staticmethod
    def of(config: PreTrainedConfig, parameters: int, compute: int) -> Weights:
        """All weights trained. Raises AttributeError for a family without these sizes."""
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        grouped = getattr(config, "num_key_value_heads", None) or heads
        return Weights(
            all=parameters,
            trained=parameters,
            compute=compute,
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            keys=2 * grouped * head,
        )

    @property
    def key_bytes(self) -> int:
        """Of one token's keys and values, in all layers."""
        return self.layers * self.keys * self.compute


def largest_batch(demand: Demand, rows: Sequence[Sequence[Row]]) -> tuple[int, int]:
    """Positions and actions of the largest micro-batch of these steps."""
    batches = [batch for some in rows for batch in pack(some, demand.tokens_per_microbatch, demand.whole_groups)]
    if not batches:
        return 0, 0
    return max(len(batch.tokens_N) for batch in batches), max(len(batch.action_A) for batch in batches)


def memory_of(
    weights: Weights,
    demand: Demand,
    positions: int,
    actions: int,
    kept: float,
    process: int,
    judges: int = 0,
) -> Mapping[str, int]:
    """Bytes by what takes them.

    Args:
        positions, actions: of the largest micro-batch; 0 where nothing is learned.
        kept: bytes of a position that the backward pass wants, without checkpointing.
        process: of Python, its libraries and the data, before any weight is loaded.
        judges: of the reward models that are held.
    """
    halves = weights.compute < 4 or weights.adapted
    module, masters = weights.all * weights.compute, 4 * weights.trained
    found = {"process": process, "weights": module + (masters if halves and positions else 0)}
    if positions:
        learners = 2 if demand.critic else 1
        found["weights"] += masters * (learners - 1)
        rounded = weights.all * weights.compute if halves else 0  # the module's own, before the masters take them
        found["gradients"] = learners * masters + rounded
        found["optimizer"] = learners * 2 * masters
        found["activations"] = learners * round(_activations(weights, kept) * positions)
        found["backward"] = 2 * round(kept * positions / weights.layers)  # the gradients of what a layer keeps
        if demand.lm_head:
            found["logits"] = largest_chunk(actions) * weights.vocabulary * weights.compute
    if demand.reference:
        found["reference"] = module + (4 * weights.all if demand.moving and weights.compute < 4 else 0)
    if judges:
        found["reward models"] = judges
    if demand.asked is not None:
        found["keys and values"] = pool_bytes(weights, demand.asked)
        if weights.packed:
            found["sampler's weights"] = module
    return found


def pool_bytes(weights: Weights, asked: Asked) -> int:
    """Of the native engine's pages for as many sequences as it decodes side by side, page 0 with them."""
    page = weights.key_bytes * PAGE
    requests = [Request(prompt, asked.answers, 0) for prompt in asked.prompts]
    return page * (min(CACHE_BYTES // page - 1, most_pages(requests, asked.sampling, SLOTS)) + 1)


def _activations(weights: Weights, kept: float) -> float:
    """Bytes a position: all that is kept, or the layers' inputs and one layer's own."""
    if not weights.checkpointed:
        return kept
    return 2 * weights.layers * weights.width * weights.compute + kept / weights.layers
