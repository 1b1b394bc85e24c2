"""The lock of a run on a file system: held by the operating system, so a dead holder holds none."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import filelock

from checkpoint import durability
from checkpoint.stores.base import locked_error
from checkpoint.stores.holder import Holder

__all__ = ["WriterLock"]

# The workers of a killed run hold the lock until they are gone, moments later.
_PATIENCE = 2.0


class WriterLock:
    """A lock file, and beside it a note of who holds it.

    Parameters
    ----------
    lock, note : Path
    """

    def __init__(self, lock: Path, note: Path) -> None:
        self._note = note
        self._lock = filelock.FileLock(lock, timeout=_PATIENCE, thread_local=False)

    def acquire(self, name: str, last_commit: Callable[[], float | None]) -> None:
        """Take the lock.

        Raises
        ------
        RunLockedError
            If another process has it.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise locked_error(name, self._holder(), last_commit()) from None
        try:
            self._note.write_text(json.dumps(Holder.this_process().to_json()))
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        # The note may stay: the lock is what counts, and where a disk can no longer be written an
        # error of this would hide the one that matters.
        try:
            with contextlib.suppress(OSError):
                durability.remove(self._note)
        finally:
            self._lock.release()

    def _holder(self) -> str:
        try:
            holder = Holder.from_json(json.loads(self._note.read_text()))
        except (OSError, ValueError):
            holder = None
        return "another process" if holder is None else str(holder)
