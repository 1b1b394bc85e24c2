"""The lock of a run on a file system; the operating system frees it when its holder dies."""

import contextlib
import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from checkpoint.errors import NotARunError
from checkpoint.stores import durability
from checkpoint.stores.base import locked_error
from checkpoint.stores.held import identity_at, identity_of
from checkpoint.stores.holder import Holder, noted_holder

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["NoLocksError", "WriterLock", "is_guarded_taken", "is_taken", "set_free"]

# The workers of a killed run keep the lock until they end, moments later.
_PATIENCE = 2.0

_PAUSE = 0.02

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
"""Error numbers of a file system that was mounted without locks."""


class NoLocksError(Exception):
    """The file system has no locks."""


class WriterLock:
    """A lock file, with a note beside it that names the process that holds it.

    The directory that it guards may be locked too, by its descriptor. Then a second writer stays
    out even if the lock file is removed while it is held. Some file systems cannot lock a
    directory; there only the file is locked.

    Parameters
    ----------
    lock, note : Path
    within : int, optional
        Descriptor of the directory that the paths are relative to.
    guarded : int, optional
        Descriptor of the directory that is locked too.
    """

    def __init__(
        self, lock: Path, note: Path, within: int | None = None, guarded: int | None = None
    ) -> None:
        self.path = lock
        self._note = note
        self._within = within
        self._guarded = guarded
        self._descriptor = -1
        self._rival: Holder | None = None
        self._is_new = False

    @property
    def has_rival(self) -> bool:
        """Whether a lock that another process has on what is guarded is that of a writer.

        Any process that can read it can lock it. Its lock therefore counts only with further
        evidence: a note of a process that may be alive, or a missing lock file, which only a
        process that may write the store can have removed.
        """
        return self._is_new or (self._rival is not None and not self._rival.is_certainly_dead)

    def remove_if_new(self) -> None:
        """Remove the lock file if this attempt created it: the next must find it missing too."""
        if self._is_new and self._is_at_path():
            durability.remove(self.path, self._within)

    @property
    def identity(self) -> tuple[int, int]:
        """The inode that is locked."""
        return identity_of(os.fstat(self._descriptor))

    def acquire(self, name: str, last_commit: Callable[[], float | None]) -> None:
        """Take the lock.

        Raises
        ------
        RunLockedError
            If another process has it.
        NotARunError
            If something other than a regular file is at the path of the lock or of the note.
        NoLocksError
            If the file system has no locks.
        """
        for path in (self.path, self._note):
            _check_plain(path, self._within)
        deadline = time.monotonic() + _PATIENCE
        while not self._take():
            if time.monotonic() > deadline:
                raise locked_error(name, self._holder(), last_commit())
            time.sleep(_PAUSE)
        try:
            self._write_note()
        except BaseException:
            self._let_go()
            raise

    def release(self) -> None:
        # The note may stay, as only the lock counts. If the disk can no longer be written, an
        # error here would hide the one that matters.
        try:
            with contextlib.suppress(OSError):
                durability.remove(self._note, self._within)
        finally:
            self._let_go()

    def _take(self) -> bool:
        """Lock the file that is at the path; return whether that was possible."""
        self._descriptor = self._opened()
        try:
            self._restrict()
            self._rival = self._noted()
            # Another process may have removed the file between the two calls.
            if not is_taken(self._descriptor) and self._is_at_path():
                if self._guarded is None or not is_guarded_taken(self._guarded):
                    return True
                if not self.has_rival:
                    return True
                self.remove_if_new()
        except BaseException:
            self._close()
            raise
        self._close()
        return False

    def _opened(self) -> int:
        self._is_new = False
        try:
            return os.open(self.path, _FLAGS & ~os.O_CREAT, dir_fd=self._within)
        except FileNotFoundError:
            self._is_new = True
            return os.open(self.path, _FLAGS, 0o600, dir_fd=self._within)

    def _restrict(self) -> None:
        """Let only users who may write the folder open the lock: any who open it can hold it.

        In a folder with the sticky bit, such as ``/tmp``, only the owner can open it. The lock of
        another user is left unchanged.
        """
        if sys.platform == "win32":
            return
        folder = os.stat(self.path.parent, dir_fd=self._within).st_mode
        permissions = 0o600
        if not folder & stat.S_ISVTX:
            permissions |= 0o060 if folder & stat.S_IWGRP else 0
            permissions |= 0o006 if folder & stat.S_IWOTH else 0
        with contextlib.suppress(OSError):
            os.fchmod(self._descriptor, permissions)

    def _is_at_path(self) -> bool:
        return identity_at(self.path, self._within) == self.identity

    def _let_go(self) -> None:
        """Free the lock, also for processes that inherited the descriptor from this one."""
        if self._descriptor >= 0:
            for descriptor in (self._descriptor, self._guarded):
                if descriptor is not None:
                    set_free(descriptor)
            self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _write_note(self) -> None:
        document = json.dumps(Holder.this_process().to_json()).encode()
        durability.remove(self._note, self._within)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(self._note, flags, 0o666, dir_fd=self._within), "wb") as file:
            file.write(document)

    def _holder(self) -> str:
        holder = self._noted()
        return "another process" if holder is None else str(holder)

    def _noted(self) -> Holder | None:
        return noted_holder(self._note, self._within)


def is_taken(descriptor: int) -> bool:
    """Try to lock an open file or directory; return whether another process holds its lock.

    Raises
    ------
    NoLocksError
        If the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(str(error)) from error
        raise
    return False


def is_guarded_taken(descriptor: int) -> bool:
    """Try to lock what a lock file guards; return whether another process holds that lock."""
    if sys.platform != "win32":  # a locked file could not be read there
        with contextlib.suppress(OSError, NoLocksError):
            return is_taken(descriptor)
    return False


def set_free(descriptor: int) -> None:
    """Unlock what `is_taken` locked, also for processes that inherited the descriptor."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _check_plain(path: Path, within: int | None) -> None:
    """Check that a path holds a regular file or nothing, so that no other file is written.

    Raises
    ------
    NotARunError
        If it holds a pipe, a device, or a link, which may lead to a file of another user.
    """
    try:
        mode = os.stat(path, dir_fd=within, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise NotARunError(
            f"{path} is not a file, as the lock of a run is. Nothing was changed. Remove it, if "
            "you trust the rest of the store."
        )
