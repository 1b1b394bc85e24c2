"""A run in a directory: one file a key.

A directory may come from others, as any store may. Its own path may be a link; what lies in it
may not: links, pipes and devices are refused, by whatever key they are reached.
"""

import contextlib
import errno
import functools
import operator
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checkpoint import durability, layout
from checkpoint.errors import (
    CheckpointError,
    DamagedStoreError,
    NotARunError,
    StoreUnreachableError,
)
from checkpoint.stores.base import KeyTakenError, Store, checked_key, explained
from checkpoint.stores.file_lock import WriterLock

__all__ = ["DirectoryStore"]


# Lock, note of the holder, temporary files. The documents of Zarr format 2 begin with a dot too.
_HIDDEN = (".lock", ".holder", durability.TEMPORARY_PREFIX)

# A pipe would keep who opens it waiting, and a link leads anywhere.
_FLAGS = ("O_RDONLY", "O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")
_OPEN = functools.reduce(operator.or_, (getattr(os, flag, 0) for flag in _FLAGS))

_NO_SUCH_KEY = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class DirectoryStore(Store):
    """Keys as files below a directory, as in zarr's LocalStore, and synced.

    Parameters
    ----------
    root : path
        The directory. It is made when the first key is written.
    read_only : bool

    Notes
    -----
    Durability: `write` and `create` return when file and directory are synced.
    """

    writes_in_workers = True

    def __init__(self, root: str | os.PathLike[str], *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.root = Path(root)
        self._lock: WriterLock | None = None
        self._folders: set[str] = set()
        if self.root.exists() and not self.root.is_dir():
            raise NotARunError(
                f"{self.root} is a file, not a directory; nothing was changed. "
                "Give the path of a run, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_folders": set()}

    @property
    def name(self) -> str:
        return str(self.root)

    @property
    def place(self) -> Path:
        return Path(os.path.realpath(self.root))

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            descriptor = os.open(path, _OPEN)
            try:
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISREG(mode):
                    with open(descriptor, "rb", closefd=False) as file:
                        return file.read()
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _NO_SUCH_KEY:
                return None
            raise self._unreadable(key, error) from error
        if stat.S_ISDIR(mode):
            return None
        raise self._irregular(key)

    def has(self, key: str) -> bool:
        self._path(key)
        return stat.S_ISREG(self._mode(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        folders = [prefix.rpartition("/")[0]]
        while folders:
            folder = folders.pop()
            for entry in self._listed(folder):
                key = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        folders.append(key)
                elif key.startswith(prefix) and not entry.name.startswith(_HIDDEN):
                    yield key

    def names(self, folder: str) -> list[str]:
        found = (entry.name for entry in self._listed(folder))
        return sorted(name for name in found if not name.startswith(_HIDDEN))

    def write(self, values: Mapping[str, bytes]) -> None:
        with explained(self.name, self.root):
            durability.replace_many({self._path(key): value for key, value in values.items()})

    def create(self, key: str, value: bytes) -> None:
        with explained(self.name, self.root):
            try:
                durability.create(self._path(key), value)
            except FileExistsError:
                raise KeyTakenError(key) from None

    def remove(self, keys: Iterable[str]) -> None:
        with explained(self.name, self.root):
            for key in keys:
                durability.remove(self._path(key))

    def remove_all(self) -> None:
        super().remove_all()
        with explained(self.name, self.root):
            for folder, _, _ in os.walk(self.root, topdown=False):
                durability.remove_directory(Path(folder))  # the lock is in one

    def lock(self) -> None:
        with explained(self.name, self.root):
            folder = self._path(f"{layout.LOG}/.lock").parent
            durability.make_directory(folder)
            lock = WriterLock(folder / ".lock", folder / ".holder")
            lock.acquire(self.name, self._last_commit)
            try:
                self._remove_leftovers()
                durability.settle(self.root)
            except BaseException:
                lock.release()
                raise
        self._lock = lock

    def settle(self) -> None:
        with explained(self.name, self.root):
            durability.settle(self.root)

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _last_commit(self) -> float | None:
        folders = [self.root / layout.DRAW_IDX, *(self.root / layout.LOG / "c").glob("*")]
        times = []
        for folder in folders:
            with contextlib.suppress(OSError):
                times += [entry.stat().st_mtime for entry in os.scandir(folder)]
        return max(times, default=None)

    def _remove_leftovers(self) -> None:
        """Remove temporary files of writers that died; there is no other writer now."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(durability.TEMPORARY_PREFIX):
                    durability.remove(Path(folder) / name)

    def _path(self, key: str) -> Path:
        """Return the file of a key, all of whose folders lie in the store.

        Raises
        ------
        DamagedStoreError
            If one of them is a link.
        """
        unknown = []
        folder = checked_key(key).rpartition("/")[0]
        while folder and folder not in self._folders:
            unknown.append(folder)
            folder = folder.rpartition("/")[0]
        for folder in reversed(unknown):
            mode = self._mode(folder)
            if stat.S_ISLNK(mode):
                raise self._irregular(folder)
            if not mode:
                break  # nor is there anything below it
            self._folders.add(folder)
        return self.root / key

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        # With the path of anything in it, the folder itself is looked at.
        path = self._path(f"{folder}/any").parent if folder else self.root
        try:
            with os.scandir(path) as found:
                return list(found)
        except OSError as error:
            if error.errno in _NO_SUCH_KEY:
                return []
            raise self._unreadable(folder, error) from error

    def _mode(self, key: str) -> int:
        """Return what lies at a key itself, be it a link; 0 if there is nothing."""
        try:
            return os.lstat(self.root / key).st_mode
        except OSError as error:
            if error.errno in _NO_SUCH_KEY:
                return 0
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: OSError) -> CheckpointError:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # what a link and a socket say
            return self._irregular(key)
        return StoreUnreachableError(
            f"{self.name}: {key} cannot be read: {error.strerror}. Nothing was changed. "
            "Mend the permissions or the disk, then do this again."
        )

    def _irregular(self, key: str) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self.name}: {key} is a link, a pipe or a device, through which a store could "
            "reach what is not in it; expected a file or a folder. It was not followed. If you "
            "trust the store, put there what it leads to."
        )
