"""Steps of TRL's GRPOTrainer: the same prompts, sampling, reward and loss as ours."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from bench.pace import Pace, read_spec
from bench.peer.stepping import Phases, arguments_of, train
from bench.worth import WORTH


def text_of(completion: str | list[dict[str, str]]) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


def main() -> None:
    pace, spec, phases = Pace(), read_spec(), Phases()
    worth = WORTH[spec["reward"]]

    def reward(completions: list[Any], answer: list[str | None], completion_ids: list[list[int]], **_: Any):
        values = [worth(text_of(completion), gold) for completion, gold in zip(completions, answer, strict=True)]
        phases.add("reward", sum(values) / len(values))
        phases.add("tokens", sum(map(len, completion_ids)))
        return values

    rows = [{"prompt": p.get("messages") or p["text"], "answer": p.get("answer")} for p in spec["prompts"]]
    fixed = {"min_new_tokens": spec["new_tokens"]} if spec["fixed_length"] else None
    with TemporaryDirectory() as output:
        config = GRPOConfig(
            **arguments_of(spec, output),
            per_device_train_batch_size=spec["prompts_per_step"] * spec["completions"],
            num_generations=spec["completions"],
            max_completion_length=spec["new_tokens"],
            generation_kwargs=fixed,
            loss_type="grpo",
            beta=0.0,
        )
        trainer = GRPOTrainer(spec["model"], reward, args=config, train_dataset=Dataset.from_list(rows))
        trainer.model.generate = phases.timed("generate_seconds", trainer.model.generate)
        asked, *_ = trainer._tokenize_prompts([row["prompt"] for row in rows])
        pace.note(prompt_tokens=sum(map(len, asked)))
        train(trainer, pace, phases)


if __name__ == "__main__":
    main()
