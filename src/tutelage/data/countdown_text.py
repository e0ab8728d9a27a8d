"""The source `countdown-text`: the countdown game as a search written out, with what fails before what works."""

from __future__ import annotations

import re
from random import Random
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator

from tutelage.data.chat import Conversation
from tutelage.data.countdown import CountdownQuestions, Game, Way, attempt, search, value_of_way, written
from tutelage.data.formats import Use
from tutelage.data.preferences import Judged
from tutelage.data.source import AnySource
from tutelage.data.told import asked_and_answered, texts_of
from tutelage.errors import ConfigError, DataError
from tutelage.seeds import derive_seed
from tutelage.types import Prompt, Split


class CountdownTextSource(CountdownQuestions, AnySource):
    """Texts of the questions that the environment `countdown` asks under the same keys, each solved by a search.

    A search is a line for each attempt, of which the last one is right (Stream of Search, Gandhi et al., 2404.03683,
    in small: how many attempts fail is drawn, and which). No attempt in a text for training solves a test question.
    """

    type: Literal["countdown-text"] = "countdown-text"
    split: Split = "train"
    template: str = "{numbers} to {target}:\n{steps}\n{answer}"  # {steps}: the attempts, a line for each
    failures: NonNegativeInt = 3  # attempts that come out wrong before the right one, at most: any number is as likely
    verdicts: bool = False  # each attempt ends with the question whether it is right: `3 + 5 = 8, 8 * 9 = 72; 14? no`
    searches: PositiveInt = 1  # texts of each question: other attempts, and another way where there is one
    per_text: PositiveInt = 1  # questions in a text
    question: str | None = None  # "Make {target} from {numbers}.", asked by the user: the text is the answer

    @field_validator("template")
    @classmethod
    def _tells_the_answer(cls, template: str) -> str:
        names = set(re.findall(r"\{(\w*)\}", template))
        if not names & {"answer", "steps"} or names - {"numbers", "target", "answer", "steps"}:
            raise ValueError(
                "must hold {answer} or {steps}, and may hold {numbers} and {target}; nothing else in braces"
            )
        return template

    @model_validator(mode="after")
    def _asks_one_at_a_time(self) -> CountdownTextSource:
        if self.question is None:
            return self
        if "{numbers}" not in self.question or "{target}" not in self.question:
            raise ValueError("question: must hold {numbers} and {target}")
        if self.per_text > 1:
            raise ValueError("per_text: with a question each text is the answer to one")
        return self

    def check(self, where: str, use: Use) -> None:
        if use != "conversations":
            raise ConfigError(f"{where}: 'countdown-text' tells and does not ask; take the environment 'countdown'")
        try:
            self.splits()
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def load(self) -> list[Prompt]:
        raise DataError("the countdown-text source holds texts, no prompts")

    def load_judged(self) -> list[Judged]:
        raise DataError("the countdown-text source holds texts, no judged answers")

    def load_conversations(self) -> list[Conversation]:
        splits = self.splits()
        held_out = set(splits["test"]) if self.split == "train" else set[Game]()
        games = splits[self.split]
        told = [self._told(game, held_out, number) for number in range(self.searches) for game in games]
        if self.question is None:
            return texts_of("countdown", told, self.per_text)
        asked = [ask(self.question, game) for game in games] * self.searches
        return asked_and_answered("countdown", asked, told)

    def _told(self, game: Game, held_out: set[Game], search_number: int) -> str:
        random = Random(derive_seed(self.seed, "search", *game.numbers, game.target, search_number))
        found = search(game, random.randint(0, self.failures), held_out, random)
        told = ask(self.template, game).replace("{answer}", written(found[-1]))
        lines = [attempt(way) + self._verdict(way, game.target) for way in found]
        return told.replace("{steps}", "\n".join(lines))

    def _verdict(self, way: Way, target: int) -> str:
        """What came out and what is wanted, side by side: a small model learns sooner to compare what it just wrote."""
        return f"; {target}? {'yes' if value_of_way(way) == target else 'no'}" if self.verdicts else ""


def ask(wording: str, game: Game) -> str:
    """A wording with a game's numbers and target in it."""
    return wording.replace("{numbers}", ", ".join(map(str, game.numbers))).replace("{target}", str(game.target))
