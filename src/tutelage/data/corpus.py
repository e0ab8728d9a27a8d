"""A corpus: texts as tokens, end to end, kept in a file so that they are made once; and the sequences cut out of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tutelage.data.chat import render_text
from tutelage.data.packing import Row
from tutelage.errors import RunFolderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_SHOWN = {"advantages": 1.0}


@dataclass(frozen=True, slots=True)
class Corpus:
    """D texts, T tokens.

    | Field | Shape | Meaning |
    |---|---|---|
    | tokens_T | [T] int32 | of each text, from the token that begins it to the one that ends it |
    | starts_D | [D] int64 | where each text begins |
    """

    tokens_T: Tensor
    starts_D: Tensor

    def sequences(self, context: int) -> int:
        """How many sequences of `context` tokens there are; the last one may be shorter.

        A sequence begins with the last token of the one before: so every token but each text's first is predicted in
        one of them, once, and none is lost.
        """
        return max(1, -(-(len(self.tokens_T) - 1) // (context - 1)))

    def rows(self, place: int, context: int) -> list[Row]:
        """A sequence as rows, cut where a text ends: none sees another text, and positions count anew in each.

        So are documents kept apart in Llama 3's training (2407.21783, section 3.2), by a mask. What begins in the
        middle of a text does not see what is before it. A text's last token alone predicts nothing and is left out.
        """
        first = place * (context - 1)
        end = min(first + context, len(self.tokens_T))
        inside = torch.searchsorted(self.starts_D, torch.tensor([first, end - 1]), right=True)
        return self._rows([first, *self.starts_D[inside[0] : inside[1]].tolist(), end], place)

    def text_rows(self, text: int, context: int) -> list[Row]:
        """All of one text, in pieces of at most `context` tokens that overlap by one as sequences do."""
        first = int(self.starts_D[text])
        end = int(self.starts_D[text + 1]) if text + 1 < len(self.starts_D) else len(self.tokens_T)
        pieces = range(first, end - 1, context - 1)
        return [row for start in pieces for row in self._rows([start, min(start + context, end)], text)]

    def _rows(self, cuts: Sequence[int], group: int) -> list[Row]:
        return [
            Row((), tuple(self.tokens_T[start:end].tolist()), group, None, _SHOWN, name=f"tokens {start} to {end - 1}")
            for start, end in pairwise(cuts)
            if end - start > 1
        ]


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Corpus:
    """The texts as tokens, in their order."""
    tokens = [torch.tensor(render_text(tokenizer, text), dtype=torch.int32) for text in texts]
    lengths_D = torch.tensor([len(one) for one in tokens])
    return Corpus(torch.cat(tokens), lengths_D.cumsum(0) - lengths_D)


def kept_corpus(path: Path, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Corpus:
    """The same out of a file, if it was made of these very texts and tokens and is intact; else made, and kept there.

    Raises:
        RunFolderError: the file cannot be written.
    """
    made_of = hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode())
    for text in texts:
        made_of.update(hashlib.sha256(text.encode()).digest())
    found = _read(path, made_of.hexdigest())
    if found is not None:
        return found
    corpus = tokenise(tokenizer, texts)
    beside = path.with_name(f".{path.name}.partial")
    about = {"made_of": made_of.hexdigest(), "sha256": _digest(corpus)}
    try:
        save_file({"tokens": corpus.tokens_T, "starts": corpus.starts_D}, beside, about)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path}: cannot be written: {error}; make room, then `tutelage resume`") from error
    return corpus


def _read(path: Path, made_of: str) -> Corpus | None:
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("made_of") != made_of:
                return None
            corpus = Corpus(file.get_tensor("tokens"), file.get_tensor("starts"))
    except (OSError, SafetensorError):  # none, or a damaged one
        return None
    return corpus if about.get("sha256") == _digest(corpus) else None


def _digest(corpus: Corpus) -> str:
    return hashlib.sha256(corpus.tokens_T.numpy().tobytes() + corpus.starts_D.numpy().tobytes()).hexdigest()
