"""Steps of TRL's SFTTrainer on whole texts, unpacked as it is shipped, or packed; all weights, or peft's LoRA."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from bench.pace import Pace, read_spec
from bench.peer.stepping import Phases, arguments_of, train


def main() -> None:
    pace, spec = Pace(), read_spec()
    texts = Dataset.from_list([{"text": prompt + completion} for prompt, completion in spec["texts"]])
    with TemporaryDirectory() as output:
        # Packed, the texts become a few long rows: then too, one step reads all of them.
        config = SFTConfig(
            **arguments_of(spec, output), per_device_train_batch_size=len(texts), packing=spec["packing"]
        )
        trainer = SFTTrainer(spec["model"], args=config, train_dataset=texts, peft_config=adapter_of(spec["lora"]))
        rows = trainer.train_dataset
        counts = [n for row in rows for n in row.get("seq_lengths", [len(row["input_ids"])])]
        pace.note(learned_tokens=sum(counts) - len(counts), rows=len(rows))
        train(trainer, pace, Phases())


def adapter_of(lora: dict[str, int] | None) -> LoraConfig | None:
    """On all linear layers but the head, without dropout: what ours adapts."""
    if lora is None:
        return None
    return LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")


if __name__ == "__main__":
    main()
