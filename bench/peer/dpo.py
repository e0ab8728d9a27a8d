"""Steps of TRL's DPOTrainer; the reference's log-probabilities at every step, its default, or all beforehand."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from bench.pace import Pace, read_spec
from bench.peer.stepping import Phases, arguments_of, train


def main() -> None:
    pace, spec = Pace(), read_spec()
    pairs = Dataset.from_list(
        [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in spec["pairs"]]
    )
    with TemporaryDirectory() as output:
        config = DPOConfig(
            **arguments_of(spec, output),
            per_device_train_batch_size=len(pairs),
            precompute_ref_log_probs=spec["reference_beforehand"],
        )
        trainer = DPOTrainer(spec["model"], args=config, train_dataset=pairs)
        rows = trainer.train_dataset
        pace.note(learned_tokens=sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows))
        train(trainer, pace, Phases())


if __name__ == "__main__":
    main()
