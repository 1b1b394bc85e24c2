"""The directory of a locked store, held by its inode even if its path changes.

A lock belongs to an inode, and so does an open directory. A write relative to the directory reaches
the store that was locked, even if it was moved, and never another store that was created at its
path since. The check of the path before each change only decides when the writer stops.
"""

import errno
import os
from pathlib import Path
from typing import Any

from checkpoint.errors import StoreMovedError
from checkpoint.stores import durability

__all__ = ["HeldFolder", "identity_at", "identity_of", "moved_error"]

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP)

Identity = tuple[int, int]


class HeldFolder:
    """A directory that is identified by its inode.

    It can be pickled: another process opens the directory when it first needs it, and checks that
    it is the same one.

    Parameters
    ----------
    path : Path
        Absolute.
    name : str
        Name of the store, for messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name
        self._descriptor = durability.open_directory(path)
        self._identity = identity_of(
            path.stat() if self._descriptor is None else os.fstat(self._descriptor)
        )
        self._lock: tuple[Path, Identity] | None = None
        self._is_open = True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None, "_is_open": False}

    @property
    def descriptor(self) -> int | None:
        """Descriptor of the directory, for `within`; None on systems that cannot open it.

        Raises
        ------
        StoreMovedError
            If another process opens the path, and the directory is no longer there.
        """
        if not self._is_open:
            try:
                self._descriptor = durability.open_directory(self.path)
            except OSError as error:
                if error.errno in _GONE:
                    raise moved_error(self._name, self.path) from None
                raise
            self._is_open = True
            if (
                self._descriptor is not None
                and identity_of(os.fstat(self._descriptor)) != self._identity
            ):
                self.close()
                raise moved_error(self._name, self.path)
        return self._descriptor

    def locked_by(self, lock: Path, identity: Identity) -> None:
        """Remember the lock file, which must stay at its path; `lock` is relative."""
        self._lock = lock, identity

    def unlocked(self) -> None:
        """Forget the lock file, which may be removed now."""
        self._lock = None

    def check(self) -> None:
        """Check that the path still leads to this directory, and to the lock in it.

        Raises
        ------
        StoreMovedError
            If it does not.
        """
        is_here = identity_at(self.path) == self._identity
        if is_here and self._lock is not None:
            lock, identity = self._lock
            is_here = identity_at(self.path / lock) == identity
        if not is_here:
            raise moved_error(self._name, self.path)

    def close(self) -> None:
        """Close the descriptor of the directory."""
        descriptor, self._descriptor, self._is_open = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)


def identity_of(stat: os.stat_result) -> Identity:
    """Return device and inode of a file, which no two files share at the same time."""
    return stat.st_dev, stat.st_ino


def identity_at(path: Path, within: int | None = None) -> Identity | None:
    """Return the identity of the file that a path leads to, or None if there is none."""
    try:
        return identity_of(os.stat(path, dir_fd=within))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def moved_error(name: str, place: object) -> StoreMovedError:
    """Return the error that ends a writer whose store is no longer at its path."""
    return StoreMovedError(
        f"{name}: the store was moved, removed or replaced while it was sampled, so this run "
        f"stops. What it had committed is in the store that was at {place}, wherever that is now; "
        "nothing was written to what is there instead. To continue the run, pass its new path to "
        "the same command, or move it back."
    )
