"""Every error and warning of the package, grouped by what a handler would do.

Each message says what happened, where (store, chain, draw, path), what was found against what
was expected, and what to do next.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from checkpoint.printable import printable

__all__ = [
    "ArgumentError",
    "ChainError",
    "CheckpointError",
    "CheckpointWarning",
    "DamageWarning",
    "DamagedStoreError",
    "DifferentRunError",
    "ExactnessWarning",
    "FailedRunWarning",
    "FormatVersionError",
    "IncompleteStateError",
    "InterruptedWarning",
    "NotARunError",
    "Preempted",
    "RandomModelError",
    "RunExistsError",
    "RunLockedError",
    "RunNotFoundError",
    "StoreMovedError",
    "StoreUnreachableError",
    "StoreWriteError",
    "TooFewDrawsError",
    "TooLargeError",
    "UnknownArgumentError",
    "UnsupportedStepError",
    "WorkerWarning",
]


EXIT_CODES = {
    0: "done; verify: the run is as it was written",
    1: "any other error",
    2: "the command or an argument is wrong",
    3: "there is no run",
    4: "another process is writing the run",
    5: "the store cannot be read or written, or does not answer",
    6: "something recorded is damaged",
}
"""How a command ends: the one table of exit codes."""


class CheckpointError(Exception):
    """Base of every error that `checkpoint` raises on purpose.

    Attributes
    ----------
    exit_code : int
        Exit code of a command that fails with this error.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *arguments: Any) -> None:
        # Escaped here, since a message may quote text from a store and end up on a terminal.
        super().__init__(*map(_shown, arguments))


# To do: correct the call.


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
        self.differences = [printable(line) for line in differences]


# To do: choose another store, or another `resume`.


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


# To do: look at the disk.


class StoreWriteError(CheckpointError, OSError):
    """The store cannot be written: permissions, a full disk, a path that is no directory."""

    exit_code = 5


class StoreUnreachableError(StoreWriteError):
    """The store does not answer, perhaps only for now."""


class StoreMovedError(StoreWriteError):
    """The store was moved, removed or replaced while it was sampled."""


class DamagedStoreError(CheckpointError, ValueError):
    """Something recorded is missing or fails its checksum."""

    exit_code = 6


class TooLargeError(CheckpointError, MemoryError):
    """What is to be read does not fit into the memory of this process."""


class Preempted(SystemExit):
    """A signal or a deadline announced the end of the process; what was drawn is recorded.

    It ends the process with `code`, unless it is caught.

    Attributes
    ----------
    code : int
        128 plus the signal's number, unless `preempt_exit_code` was given.
    signal : int or None
        None if a deadline came near.
    run : Run
        The run as recorded so far.
    """

    def __init__(self, code: int, number: int | None, run: Any) -> None:
        super().__init__(code)
        self.signal = number
        self.run = run


# To do: look at the model.


class RandomModelError(CheckpointError, ValueError):
    """The model draws random numbers that neither the seed nor the recorded state determines."""


class TooFewDrawsError(CheckpointError, ValueError):
    """Sampling was stopped before there was a draw after warm-up to return."""


class ChainError(CheckpointError, RuntimeError):
    """A chain failed; the draws it had recorded are kept.

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

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*map(_shown, arguments))


class ExactnessWarning(CheckpointWarning):
    """Something changed since the run began; its continuation may differ in the last bits."""


class DamageWarning(CheckpointWarning):
    """Recorded draws were lost to damage and are drawn again."""


class FailedRunWarning(CheckpointWarning):
    """A rehearsal of the run failed: the run can be read, but not continued or returned."""


class WorkerWarning(CheckpointWarning):
    """A worker process was killed and replaced, or could not be made."""


class InterruptedWarning(CheckpointWarning):
    """Sampling was interrupted: the result lacks draws that were asked for."""


def too_large(name: str, what: str, error: MemoryError) -> TooLargeError:
    """Return the error of something in a store that does not fit into memory."""
    reason = f" ({error})" if str(error) else ""
    return TooLargeError(
        f"{name}: {what} does not fit into memory{reason}. Nothing was changed. Read fewer "
        "variables or chains, or use a machine with more memory. If the run cannot be so large, "
        "its metadata was changed: check it with checkpoint verify."
    )


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, however deep in it the warning arises.

    Frames of PyMC and of context managers are skipped too, since they may lie in between.
    """
    passed = [os.path.join(os.path.dirname(__file__), ""), contextlib.__file__]
    if (pymc := sys.modules.get("pymc")) is not None and pymc.__file__ is not None:
        passed.append(os.path.join(os.path.dirname(pymc.__file__), ""))
    stacklevel, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(tuple(passed)):
        frame = frame.f_back
        stacklevel += 1
    warnings.warn(message, category, stacklevel=stacklevel)


def _shown(argument: Any) -> Any:
    return printable(argument, lines=True) if isinstance(argument, str) else argument
