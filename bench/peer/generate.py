"""Calls of transformers' `generate`: sampling at temperature 1 without filters, every completion at its full length."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.pace import Pace, read_spec


def main() -> None:
    pace, spec = Pace(), read_spec()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[spec["precision"]]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=dtype, attn_implementation="sdpa")
    model = model.eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    prompts = [tokenizer(p["text"])["input_ids"] for p in spec["prompts"]]
    tokens_BT = torch.tensor(prompts, device=device).repeat_interleave(spec["count"], 0)
    pace.note(
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
        threads=torch.get_num_threads(),
        dtype=spec["precision"],
        cache=spec["cache"],
        prompt_tokens=sum(map(len, prompts)),
    )
    going = pace.ready()
    while going:
        with torch.no_grad():
            whole_BT = model.generate(
                tokens_BT,
                attention_mask=torch.ones_like(tokens_BT),
                do_sample=True,
                top_k=0,
                min_new_tokens=spec["new_tokens"],
                max_new_tokens=spec["new_tokens"],
                cache_implementation=spec["cache"],
                pad_token_id=tokenizer.pad_token_id,
            )
        going = pace.report(tokens=whole_BT[:, tokens_BT.shape[1] :].numel())
    pace.finish()


if __name__ == "__main__":
    main()
