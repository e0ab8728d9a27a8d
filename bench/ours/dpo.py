"""Steps of DPO out of our pieces: packed pairs (their prompt once), `Policy.score`, `dpo`, `update`."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.ours.facts import facts_of
from bench.pace import Pace, read_spec
from tutelage.config import Optimizer
from tutelage.data.chat import Conversation, render_conversation
from tutelage.data.packing import Row, pack
from tutelage.functional.preference_losses import dpo
from tutelage.functional.reductions import sequence_sums
from tutelage.models import Policy, load_policy, pick_compute
from tutelage.training import State, update
from tutelage.types import Batch, Loss


def rows_of(policy: Policy, pairs: Sequence[Sequence[str]]) -> list[Row]:
    """Two rows for each pair, the chosen first; the prompt is their shared context."""
    rows: list[Row] = []
    for number, (prompt, *answers) in enumerate(pairs):
        for answer in answers:
            rendered = render_conversation(
                policy.tokenizer, Conversation(str(number), prompt=prompt, completion=answer)
            )
            start = rendered.mask.index(True)
            rows.append(Row(tuple(rendered.tokens[:start]), tuple(rendered.tokens[start:]), number))
    return rows


def pair_loss(policy: Policy, reference: Policy, batch: Batch) -> Loss:
    """The loss of a micro-batch of whole pairs, each a prompt of its own."""

    def sums_of(model: Policy) -> torch.Tensor:
        return sequence_sums(model.score(batch)[0], batch.sequence_A.to(model.device), batch.sequences)

    with torch.no_grad():  # at every step, as TRL does unless told to compute them beforehand
        reference_B = sums_of(reference)
    policy_B = sums_of(policy)
    losses_P = dpo(policy_B[0::2], policy_B[1::2], reference_B[0::2], reference_B[1::2])
    return Loss(losses_P.sum(), "prompts")


def main() -> None:
    pace, spec = Pace(), read_spec()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = load_policy(Path(spec["model"]), pick_compute(spec["compute"], device), device)
    reference = policy.frozen_copy()
    state = State(policy, Optimizer(lr=spec["lr"]))
    rows = rows_of(policy, spec["pairs"])
    batches = pack(rows, spec["tokens_per_microbatch"], whole_groups=True)
    pace.note(**facts_of(policy), learned_tokens=sum(len(row.actions) for row in rows))
    going = pace.ready()
    while going:
        began = time.perf_counter()
        numbers = update(state, batches, lambda model, batch: (pair_loss(model, reference, batch),), total_steps=1)
        going = pace.report(loss=numbers["loss"], learn_seconds=time.perf_counter() - began)
    pace.finish()


if __name__ == "__main__":
    main()
