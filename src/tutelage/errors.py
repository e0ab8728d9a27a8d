"""What can go wrong, each with its remedy. Every error also inherits the built-in class a caller would expect."""

from __future__ import annotations

from collections.abc import Mapping


class TutelageError(Exception):
    """The root of every refusal. The command line prints its message without a traceback and exits with 2."""


class ConfigError(TutelageError, ValueError):
    """A recipe, a `--set` or an option is wrong. The message names the file and the key, and the remedy."""


class DataError(TutelageError, ValueError):
    """A data set is unusable. The message names the file and the line, and the remedy."""


class UnreachableError(DataError):
    """A data set is not on this machine, and where it would come from cannot be reached now."""


class FetchError(TutelageError, OSError):
    """An archive of the package index cannot be fetched or kept, or is not what it should be."""


class UnreachableIndexError(FetchError):
    """The package index did not give an archive: it cannot be reached now, or does not have it."""


class ModelError(TutelageError, ValueError):
    """A model cannot be found, fetched, loaded or saved."""


class MissingExtraError(TutelageError, ImportError):
    """An optional dependency is not installed. The message names the extra to install."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(f"{why} needs the package '{package}': install it with  pip install 'tutelage[{extra}]'")
        self.package, self.extra, self.why = package, extra, why

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.why)


class RunFolderError(TutelageError, OSError):
    """A run folder is in use, damaged, full, or belongs to another recipe."""


class NonFiniteError(TutelageError, ArithmeticError):
    """A number of an update is not finite. The update was not applied and its batch was kept.

    `found` says where: the term, and where it can be told the sample and the token.
    """

    def __init__(self, message: str, found: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.found = dict(found or {})


class GuardError(TutelageError, RuntimeError):
    """A guard-rail has stopped the stage. The message says which number left its bounds, and the remedy."""


class FailedSamplesError(TutelageError, RuntimeError):
    """Too large a share of the samples could not be rewarded, so the step would learn from noise."""


class NothingToLearnError(TutelageError, RuntimeError):
    """No further sampling brought enough groups that an algorithm could learn from."""


class GateError(TutelageError, RuntimeError):
    """A figure of a finished stage is not what the recipe requires of it."""


class SandboxError(TutelageError, RuntimeError):
    """Model-written code cannot be run safely here. The message says what is missing and the remedy."""
