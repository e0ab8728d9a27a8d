"""Self-play that a tiny random policy can play: its moves and programs are read off whatever it writes."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.environments import Programs
from tutelage.environments.kuhn_poker import KuhnPoker


class ParityKuhn(KuhnPoker):
    """Kuhn poker whose moves are even or odd first characters."""

    __slots__ = ()

    def asked(self) -> str:
        return f"{' '.join(self.history)} {self.cards[self.mover]}"

    @classmethod
    def read(cls, text: str, moves: Sequence[str]) -> str | None:
        return moves[ord(text[0]) % 2] if text else None


class ShortPrograms(Programs):
    """Any text proposes a sum of its first character's code and its length."""

    type: str = "tests.stages.parity:ShortPrograms"

    def program_in(self, text: str) -> str | None:
        return f"{ord(text[0]) % 10} + {len(text)}" if text else None
