"""The data set `human-sentiment`: what people feel about 23,416 short texts, told by each of 15 to 99 raters.

The task that it is cut for: go on from an opening, the first one to three words of a text, so that people would call
the whole positive. Tweets and sentences of film reviews, product reviews and editorials come from the source archive
of vaderSentiment (Hutto and Gilbert, 2014; scores from -4 to 4), two-turn dialogues from chatterbot-corpus.

A text is in one split only, whatever its letters' case and white space, and a hash of it decides in which. 45 % are
for comparisons, other 45 % for those that a second, held-out judge learns from (`gold`), 10 % give openings and are
in no other file; of each, one in five is for testing.
"""

from __future__ import annotations

import html
import io
import json
import math
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, variance
from typing import Any, cast

import yaml

from tutelage.seeds import derive_seed

PARTS = {
    "comparisons-train": "openings and 2 to 8 continuations of each, with the mean of their raters; for a judge",
    "comparisons-test": "the same of other texts",
    "gold-train": "the same of other texts again; for a second judge, that the first is measured by",
    "gold-test": "the same of other texts",
    "openings-train": "openings of texts that are in no other part, to go on from",
    "openings-test": "other openings",
    "texts-train": "whole texts: those of comparisons-train and gold-train",
    "texts-test": "whole texts: those of comparisons-test and gold-test",
    "dialogue": "questions and answers in two turns",
}
_SOURCES = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
_MOST_ANSWERS = 8
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Rated:
    """A text, and what every one of its raters thought of it."""

    text: str
    source: str
    ratings: tuple[int, ...]

    @property
    def key(self) -> str:
        """What two texts have in common that count as the same. White space is one blank everywhere already."""
        return self.text.lower()

    def share(self, of_what: str) -> float:
        """A number in [0, 1) that only the text decides."""
        return _share(of_what, self.key)

    def opening(self, words: int) -> str | None:
        """The first words of the text, if there are more."""
        parts = self.text.split(" ", words)
        return " ".join(parts[:words]) if len(parts) > words else None


def make(archives: Sequence[Path], folder: Path) -> None:
    """Writes the parts, and how far raters agree, into a new folder."""
    folder.mkdir()
    texts = sorted(read_rated(archives[0]), key=lambda text: text.share("order"))
    by_role: dict[str, list[Rated]] = defaultdict(list)
    for text in texts:
        by_role[_role(text)].append(text)
    agreement: dict[str, object] = {}
    for side in ("train", "test"):
        for role in ("comparisons", "gold"):
            rows = compare(by_role[f"{role}-{side}"])
            _write(folder, f"{role}-{side}", rows)
            if side == "test":
                agreement[f"{role}-{side}"] = agreement_of(rows)
        seen = sorted(by_role[f"comparisons-{side}"] + by_role[f"gold-{side}"], key=lambda text: text.share("order"))
        _write(folder, f"texts-{side}", [{"text": text.text} for text in seen])
    openings = dict.fromkeys(text.opening(1 + int(3 * text.share("words"))) for text in by_role["openings"])
    for side in ("train", "test"):
        chosen = [{"question": opening} for opening in openings if opening and _side(opening) == side]
        _write(folder, f"openings-{side}", chosen)
    _write(folder, "dialogue", read_dialogue(archives[1]))
    (folder / "agreement.json").write_text(json.dumps(agreement, indent=2) + "\n", encoding="utf-8")


def read_rated(archive: Path) -> list[Rated]:
    """The texts in the source archive of vaderSentiment, each once.

    199 tweets are left out: the mean that stands beside the text is not that of the ratings under the same number, so
    one of the two files is wrong about them.
    """
    texts: dict[str, Rated] = {}
    for source, (said, rated) in _tables(archive).items():
        means = {row[0]: float(row[1]) for row in said}
        ratings = {row[0]: tuple(cast("list[int]", json.loads(row[3]))) for row in rated}
        for number, _, words in said:
            text = Rated(" ".join(html.unescape(words).split()), source, ratings[number])
            if abs(fmean(text.ratings) - means[number]) < 1e-3:
                texts.setdefault(text.key, text)
    return list(texts.values())


def read_dialogue(wheel: Path) -> list[Row]:
    """The English dialogues of chatterbot-corpus: what was said first, and the first answer.

    What follows is left out: in some of the files it goes on, in others it is another answer to the first.
    """
    turns: dict[tuple[str, str], None] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("chatterbot_corpus/data/english/") and name.endswith(".yml"):
                for talk in cast("list[list[Any]]", yaml.safe_load(archive.read(name))["conversations"]):
                    first, second = (str(said).strip() for said in talk[:2])
                    turns[first, second] = None
    return [
        {"messages": [{"role": "user", "content": first}, {"role": "assistant", "content": second}]}
        for first, second in turns
    ]


def compare(texts: Iterable[Rated]) -> list[Row]:
    """Openings that texts share, with what follows in each, as rows of judged answers.

    A text is in one row at most, the one with the longest opening that it shares, of three words, of two or of one. It
    stays out where raters do not tell it from one that is in the row: means must differ by a standard error of their
    difference at least.
    """
    left = list(texts)
    rows: list[Row] = []
    for words in (3, 2, 1):
        sharing: dict[str, list[Rated]] = defaultdict(list)
        for text in left:
            opening = text.opening(words)
            if opening is not None:
                sharing[opening].append(text)
        left = [text for text in left if len(sharing.get(text.opening(words) or "", ())) < 2]
        for opening, group in sharing.items():
            for start in range(0, len(group) if len(group) > 1 else 0, _MOST_ANSWERS):
                told_apart = _told_apart(group[start : start + _MOST_ANSWERS])
                if len(told_apart) > 1:
                    rows.append(_row(opening, told_apart))
    return rows


def agreement_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How often one rater of each text, drawn at random, prefers the same of two texts as all other raters' means.

    It is what a judge of these pairs can be expected to reach that is as good as one person. Exact: over all draws. A
    tie counts half. The two ratings may be of different people.
    """
    agreed = [_agreement(first, second) for row in rows for first, second in combinations(row["raters"], 2)]
    return {"agreement": round(fmean(agreed), 4) if agreed else math.nan, "pairs": len(agreed)}


def _agreement(first: Sequence[int], second: Sequence[int]) -> float:
    agreed = 0.0
    for mine, times in Counter(first).items():
        others = (sum(first) - mine) / (len(first) - 1)
        for yours, often in Counter(second).items():
            product = (mine - yours) * (others - (sum(second) - yours) / (len(second) - 1))
            agreed += times * often * (0.5 if product == 0 else float(product > 0))
    return agreed / (len(first) * len(second))


def _told_apart(group: Sequence[Rated]) -> list[Rated]:
    kept: list[Rated] = []
    for text in group:
        if all(_differ(text.ratings, other.ratings) for other in kept):
            kept.append(text)
    return kept


def _differ(first: Sequence[int], second: Sequence[int]) -> bool:
    difference = abs(fmean(first) - fmean(second))
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    return difference > 0 and difference >= error


def _row(opening: str, group: Sequence[Rated]) -> Row:
    return {
        "prompt": opening,
        "answers": [text.text[len(opening) :] for text in group],
        "scores": [round(fmean(text.ratings), 4) for text in group],
        "deviations": [round(math.sqrt(variance(text.ratings)), 4) for text in group],
        "raters": [list(text.ratings) for text in group],
        "sources": [text.source for text in group],
    }


def _role(text: Rated) -> str:
    share = text.share("role")
    if share < 0.1:
        return "openings"
    return f"{'comparisons' if share < 0.55 else 'gold'}-{_side(text.key)}"


def _side(text: str) -> str:
    return "test" if _share("side", text) < 0.2 else "train"


def _share(of_what: str, text: str) -> float:
    return derive_seed("human-sentiment", of_what, text) / 2**63


def _tables(archive: Path) -> dict[str, tuple[list[list[str]], list[list[str]]]]:
    """For each source the rows of its two files, the texts' and the ratings', out of the archive in the archive."""
    with tarfile.open(archive) as outer:
        inner = outer.extractfile(next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz")))
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as files:
            names = {Path(name).name: name for name in files.getnames()}
            return {
                source: (
                    _table(files, names[f"{source}_GroundTruth.txt"]),
                    _table(files, names[f"{source}_anonDataRatings.txt"]),
                )
                for source in _SOURCES
            }


def _table(files: tarfile.TarFile, name: str) -> list[list[str]]:
    file = files.extractfile(name)
    assert file is not None
    return [line.split("\t") for line in file.read().decode("utf-8-sig").splitlines() if line.strip()]


def _write(folder: Path, part: str, rows: Iterable[Mapping[str, object]]) -> None:
    lines = [
        json.dumps({"id": f"{part}-{number}", **row}, ensure_ascii=False) + "\n" for number, row in enumerate(rows, 1)
    ]
    (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
