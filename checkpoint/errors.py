"""Every error and warning of the package, in one tree grouped by what a handler would do.

Each message says what happened, where (store, chain, draw, path), what was found against what
was expected, and what to do next.
"""

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "ArgumentError",
    "ChainError",
    "CheckpointError",
    "CheckpointWarning",
    "DamageWarning",
    "DamagedStoreError",
    "DifferentRunError",
    "ExactnessWarning",
    "FormatVersionError",
    "IncompleteStateError",
    "NotARunError",
    "RunExistsError",
    "RunLockedError",
    "RunNotFoundError",
    "StoreUnreachableError",
    "StoreWriteError",
    "TooFewDrawsError",
    "UnknownArgumentError",
    "UnsupportedStepError",
]


class CheckpointError(Exception):
    """Base of every error that `checkpoint` raises on purpose.

    Attributes
    ----------
    exit_code : int
        Of a command that ends with it.
    """

    exit_code: ClassVar[int] = 1


# Mend the call.


class ArgumentError(CheckpointError, ValueError):
    """An argument has a value that cannot be used."""

    exit_code = 2


class UnknownArgumentError(CheckpointError, TypeError):
    """An argument that does not exist, or that cannot be honoured here."""

    exit_code = 2


class UnsupportedStepError(CheckpointError, TypeError):
    """A step method whose state cannot be captured."""


class IncompleteStateError(CheckpointError, RuntimeError):
    """A step method whose declared state does not determine its next draw."""


class DifferentRunError(CheckpointError, ValueError):
    """The store holds a run of another model or with other settings.

    Attributes
    ----------
    differences : list of str
        One line for each thing that differs.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences = list(differences)


# Choose another store, or another `resume`.


class RunExistsError(CheckpointError, FileExistsError):
    """`resume="never"`, but the store holds a run."""


class RunNotFoundError(CheckpointError, FileNotFoundError):
    """There is no run where one is needed."""

    exit_code = 3


class NotARunError(CheckpointError, ValueError):
    """The store holds something that `checkpoint` did not write."""

    exit_code = 3


class FormatVersionError(CheckpointError, ValueError):
    """The store was written in a format this version does not know."""


class RunLockedError(CheckpointError, BlockingIOError):
    """Another process is writing this run."""

    exit_code = 4


# Look at the disk.


class StoreWriteError(CheckpointError, OSError):
    """The store cannot be written: permissions, a full disk, a path that is no directory."""

    exit_code = 5


class StoreUnreachableError(StoreWriteError):
    """The store does not answer; it may again."""


class DamagedStoreError(CheckpointError, ValueError):
    """Something recorded is missing or fails its checksum."""

    exit_code = 6


# Look at the model.


class TooFewDrawsError(CheckpointError, ValueError):
    """Sampling was stopped before there was a draw after warm-up to return."""


class ChainError(CheckpointError, RuntimeError):
    """A chain could not go on; what it had recorded is safe.

    Attributes
    ----------
    chain : int
        The chain, counted from 0.
    """

    def __init__(self, message: str, chain: int = -1) -> None:
        super().__init__(message)
        self.chain = chain

    def __reduce__(self) -> tuple[type["ChainError"], tuple[str, int]]:
        return type(self), (str(self), self.chain)


class CheckpointWarning(UserWarning):
    """Base of every warning of `checkpoint`."""


class ExactnessWarning(CheckpointWarning):
    """Something changed since the run began; its continuation may differ in the last bits."""


class DamageWarning(CheckpointWarning):
    """Recorded draws were lost to damage and are drawn again."""
