"""The environment `programs`: one policy proposes programs of sums and solves them. Absolute Zero (2505.03335)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import Annotated, Final

from pydantic import Field, PositiveInt

from tutelage.environments.self_play import Play, SelfPlay, Turn
from tutelage.errors import ConfigError
from tutelage.rewards import NumericReward, Reward
from tutelage.rewards.numeric import last_number
from tutelage.rewards.program import ProgramError, value_of
from tutelage.seeds import derive_seed
from tutelage.types import Group, Message, Prompt, Sample, Split

PROPOSE, SOLVE = "propose", "solve"
WRONG, UNREADABLE = -0.5, -1.0  # Absolute Zero, equation 6
SEED: Final = "a = 1\na + 1"  # the example where nothing has been found yet; the paper's is the identity

_PROPOSE: Final = """Write a program: lines such as `a = 2 * 3`, then one expression as the last line. Use whole \
numbers, names, +, -, * and brackets, and at most {characters} characters. It should be hard to compute in one's \
head, but not too hard. Examples:
{examples}
Write a new one, between ``` and ```."""
_SOLVE: Final = """{program}
What is the value of the last line? Answer with just the number."""


class Programs(SelfPlay):
    """Deduction, the first of the paper's tasks, in a language of our own whose programs are read, never run.

    In a step the policy proposes programs, shown some that were found before. Each valid one is solved `attempts` times
    by the same policy: who solves it earns 1, `WRONG` for another number, `UNREADABLE` for none; who proposed it earns
    `learnability`, `WRONG` for a text that is no program, `UNREADABLE` for none at all. The solver learns from the very
    attempts that tell the rate; the paper samples others, and fills a step up with earlier tasks. Left out of it:
    abduction and induction, Python, the thinking format.

    Asked like other environments, it has programs that are written by rule. Those for testing are no valid proposals.
    """

    type: str = "programs"
    characters: PositiveInt = 200  # of the longest program that is taken
    references: PositiveInt = 6  # programs that are shown to who proposes, at most; the paper's K is 6
    lines: Annotated[int, Field(ge=1, le=26)] = 2  # assignments of a question, at most
    maximum: PositiveInt = 9  # number in a question
    train_questions: PositiveInt = 512
    test_questions: PositiveInt = 200
    seed: int = 0  # of the questions

    def check(self, where: str) -> None:
        try:
            self.prompts("train")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def check_attempts(self, attempts: int, where: str) -> None:
        if attempts < 2:
            raise ConfigError(f"{where}: 1 attempt tells no rate of solving; set it to 2 or more (the paper has 8)")

    def play(self, episodes: Sequence[int], attempts: int, seed: int, found: list[str]) -> Play:
        proposals = yield [Turn(self._asked_for_one(number, seed, found), PROPOSE) for number in episodes]
        assert proposals is not None, "a play is sent the answers to its turns"
        programs = {
            number: program
            for number, group in zip(episodes, proposals, strict=True)
            if (program := self._taken(number, group.samples[0])) is not None
        }
        if not programs:
            return
        solved = yield [Turn(_question(f"solve {n}", text), SOLVE, attempts) for n, text in programs.items()]
        assert solved is not None, "a play is sent the answers to its turns"
        proposed = dict(zip(episodes, proposals, strict=True))
        for number, group in zip(programs, solved, strict=True):
            rate = _reward_attempts(number, group)
            _reward(proposed[number].samples[0], learnability(rate), valid=1.0)
        found += [program for program in dict.fromkeys(programs.values()) if program not in found]

    def examples(self) -> Sequence[Prompt]:
        longest = "1" + "+1" * ((self.characters - 1) // 2)
        return [self._proposal("propose", [longest] * self.references), _question("solve", longest)]

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return [_question(f"programs:{split}:{i}", program) for i, program in enumerate(self._splits[split])]

    def scorer(self) -> Reward:
        return NumericReward()

    def program_in(self, text: str) -> str | None:
        """What an answer has between its last marks, line by line; None where it has none."""
        blocks = re.findall(r"```(?:[\w+-]*[ \t]*\n)?(.*?)```", text, re.DOTALL)
        return "\n".join(line.strip() for line in blocks[-1].splitlines() if line.strip()) if blocks else None

    def _asked_for_one(self, number: int, seed: int, found: Sequence[str]) -> Prompt:
        """The prompt for a proposal, with some of the programs that were found before."""
        random = Random(derive_seed(seed, "references", number))
        shown = random.sample(found, min(self.references, len(found))) or [SEED]
        return self._proposal(f"propose {number}", shown)

    def _proposal(self, name: str, shown: Sequence[str]) -> Prompt:
        examples = "\n".join(f"```\n{program}\n```" for program in shown)
        text = _PROPOSE.format(characters=self.characters, examples=examples)
        return Prompt(name, (Message("user", text),))

    def _taken(self, number: int, sample: Sample) -> str | None:
        """The program that was proposed. None where it is not valid, which is rewarded at once."""
        sample.episode, program = number, self.program_in(sample.text)
        if program is not None and self._valid(program):
            return program
        _reward(sample, UNREADABLE if program is None else WRONG, valid=0.0)
        return None

    def _valid(self, program: str) -> bool:
        try:
            value_of(program)
        except ProgramError:
            return False
        return len(program) <= self.characters and program not in self._held_out

    @cached_property
    def _held_out(self) -> frozenset[str]:
        return frozenset(self._splits["test"])

    @cached_property
    def _splits(self) -> dict[Split, list[str]]:
        """The questions of both splits; those for testing do not depend on how many there are to train on."""
        wanted = self.test_questions + self.train_questions
        written: dict[str, None] = {}
        for number in range(20 * wanted):
            written[self._written(Random(derive_seed(self.seed, "programs", number)))] = None
            if len(written) == wanted:
                break
        else:
            raise ConfigError(
                f"train_questions + test_questions = {wanted}, but with lines = {self.lines} and maximum = "
                f"{self.maximum} there are hardly more than {len(written)} different programs: raise these, or ask for "
                "fewer"
            )
        programs = list(written)
        return {"test": programs[: self.test_questions], "train": programs[self.test_questions :]}

    def _written(self, random: Random) -> str:
        """A program by rule: each line goes on with the value of the one before."""
        names = "abcdefghijklmnopqrstuvwxyz"[: random.randint(1, self.lines)]
        operand = str(random.randint(0, self.maximum))
        text = ""
        for name in names:
            text += f"{name} = {operand} {random.choice('+-*')} {random.randint(0, self.maximum)}\n"
            operand = name
        return f"{text}{operand} {random.choice('+-*')} {random.randint(0, self.maximum)}"


def learnability(rate: float) -> float:
    """What a proposal earns by the share of attempts that solve it: 0 for an unsolvable one, else 1 - rate.

    Absolute Zero, equation 4: the hardest that can be solved at all is worth most.
    """
    assert 0.0 <= rate <= 1.0, rate
    return 0.0 if rate == 0.0 else 1.0 - rate


def _question(name: str, program: str) -> Prompt:
    return Prompt(name, (Message("user", _SOLVE.format(program=program)),), answer=str(value_of(program)))


def _reward_attempts(number: int, group: Group) -> float:
    """Rewards the attempts at a program. Returns the share of right ones."""
    scores = [NumericReward().score(group.prompt, sample) for sample in group.samples]
    for sample, correct in zip(group.samples, scores, strict=True):
        sample.episode = number
        readable = last_number(sample.text) is not None
        _reward(sample, 1.0 if correct else WRONG if readable else UNREADABLE, correct=correct)
    return sum(scores) / len(scores)


def _reward(sample: Sample, reward: float, **told: float) -> None:
    sample.reward, sample.rewards = reward, told
