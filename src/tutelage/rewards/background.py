"""Scoring while sampling goes on: a thread takes finished groups, and only what it could not hide is waited for."""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tutelage.rewards.suite import RewardSuite
from tutelage.types import Group

_PATIENCE = 5.0  # seconds that an interrupted caller waits for the thread; it cannot keep the process from ending


class BackgroundScoring:
    """Scores groups in a thread, while its caller samples the next ones. The scores are those of `RewardSuite.score`.

        with BackgroundScoring(suite) as scoring:
            groups = roll_out(..., finished=scoring.add)
            scoring.wait()

    Isolated components run in their own processes meanwhile. One that is not (`isolated = False`) holds the
    interpreter's lock, so its time is spent but not hidden. Where one is quicker for all groups at once (`together`),
    all are waited for. Left by an exception, what is not scored yet is abandoned and its workers are killed.
    """

    def __init__(self, suite: RewardSuite) -> None:
        self._suite = suite
        self._groups: SimpleQueue[Group | None] = SimpleQueue()  # None: no more will come
        self._abandoned = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._work, name="rewards", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandoned.set()
            self._groups.put(None)
            self._thread.join(_PATIENCE)
        else:
            self.wait()

    def add(self, group: Group) -> None:
        """Takes a group to be scored. Raises what has stopped the scoring of those before."""
        self._raise_failure()
        self._groups.put(group)

    def wait(self) -> None:
        """Waits until every group is scored. Raises what `RewardSuite.score` does."""
        self._groups.put(None)
        self._thread.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            more = True
            while more and not self._abandoned.is_set():
                groups, more = self._waiting()
                self._suite.score(groups, self._abandoned)
        except BaseException as error:  # it belongs to the caller's thread
            self._failure = error

    def _waiting(self) -> tuple[Sequence[Group], bool]:
        """All groups that wait, at least one unless no more will come; and whether more may come."""
        groups: list[Group] = []
        group = self._groups.get()
        try:
            while group is not None:
                groups.append(group)
                group = self._groups.get() if self._suite.together else self._groups.get_nowait()
        except Empty:
            return groups, True
        return groups, False
