"""The reward `instructions`: does the answer do what IFEval can check? By the checkers of the package if-verifiable."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from tutelage.errors import MissingExtraError
from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample

_NEEDS_NLTK_DATA: Final = frozenset({"length_constraints:number_sentences", "change_case:capital_word_frequency"})
"""Checkers that load a tokenizer of nltk, which would be fetched, and unpickled."""


class InstructionsReward(Reward):
    """1 where the answer follows every instruction of its prompt, else 0 (IFEval, Zhou et al., 2311.07911).

    A prompt's row has IFEval's fields `instruction_id_list` and `kwargs`. `loose` forgives a first or last line and
    asterisks, as the paper does; `share` gives the share of instructions that are followed instead. Instructions that
    would load nltk's data are failures of the sample, as is one whose numbers or words are not given: the checker would
    draw some.
    """

    type: str = "instructions"
    loose: bool = False
    share: bool = False

    def check(self, where: str) -> None:
        if find_spec("if_verifiable") is None:
            raise MissingExtraError("if-verifiable", "ifeval", f"{where}: checking instructions")

    def prepare(self) -> None:
        import langdetect

        langdetect.DetectorFactory.seed = 0  # else it guesses another language every other time
        _checkers()

    def score(self, prompt: Prompt, sample: Sample) -> float:
        from if_verifiable.common import evaluate_instructions

        names, options = prompt.meta.get("instruction_id_list"), prompt.meta.get("kwargs")
        if not names or not options or len(names) != len(options):
            raise ValueError(f"prompt {prompt.id!r} has no instruction_id_list with as many kwargs")
        for name, given in zip(names, options, strict=True):
            _check_instruction(name, given)
        asked = prompt.messages[-1].content if prompt.messages else prompt.text or ""
        _, scores = evaluate_instructions(sample.text, names, options, asked, _checkers())
        if self.share:
            return scores.partial_loose if self.loose else scores.partial_strict
        return scores.binary_loose if self.loose else scores.binary_strict


def _checkers() -> Mapping[str, Any]:
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    return INSTRUCTION_DICT


def _check_instruction(name: str, given: Mapping[str, object]) -> None:
    """Raises ValueError for one that cannot be checked here, or would be checked against something made up."""
    if name in _NEEDS_NLTK_DATA:
        raise ValueError(f"instruction {name!r} is checked with data of nltk, which are not loaded here")
    if name not in _checkers():
        raise ValueError(f"instruction {name!r} is not one of IFEval's")
    wanted = set(inspect.signature(_checkers()[name].build_description).parameters) - {"self"}
    if missing := sorted(wanted - {key for key, value in given.items() if value is not None}):
        raise ValueError(f"instruction {name!r} does not say its {', '.join(missing)}")
