"""lm-evaluation-harness, offline, on what Tutelage saves: it measures what the policy says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.data.packing import Row, pack
from tutelage.models import load_policy
from tutelage.models.loading import save

QUESTIONS = [("What is 12 + 30?", " 42", " 7"), ("The answer is", " 8", " not 8"), ("7 is", " the answer", " 42 42")]


@pytest.fixture
def task(tmp_path: Path) -> str:
    """A local task: which of two answers is likelier, from a file beside it."""
    rows = [{"question": asked, "choices": answers, "label": i % 2} for i, (asked, *answers) in enumerate(QUESTIONS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {
        "task": "local_sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(told))
    return "local_sums"


def test_the_harness_gives_the_policys_own_log_probabilities(task: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    harness = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    tokenizer = tiny_tokenizer()
    save(tiny_model(), tokenizer, tmp_path / "model")
    found = harness.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "model"), "dtype": "float32"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(tmp_path)),
        device="cpu",
        batch_size=1,
    )
    answers = [
        tuple(tokenizer(asked + text, add_special_tokens=False).input_ids)
        for asked, *both in QUESTIONS
        for text in both
    ]
    asked = [tuple(tokenizer(asked, add_special_tokens=False).input_ids) for asked, *_ in QUESTIONS for _ in range(2)]
    rows = [Row(one, whole[len(one) :], i) for i, (one, whole) in enumerate(zip(asked, answers, strict=True))]
    policy = load_policy(tmp_path / "model", torch.float32, torch.device("cpu"))
    (batch,) = pack(rows, 4096)
    scores, lengths = policy.score(batch)[0].detach(), [len(row.tokens) for row in rows]
    ours = [float(part.sum()) for part in scores.split(lengths)]
    theirs = [float(one[0][0]) for sample in found["samples"][task] for one in sample["resps"]]
    assert theirs == pytest.approx(ours, abs=1e-4)
    right = [(ours[2 * i + 1] > ours[2 * i]) == bool(i % 2) for i in range(len(QUESTIONS))]
    assert found["results"][task]["acc,none"] == pytest.approx(sum(right) / len(right))
