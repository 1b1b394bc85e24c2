"""A run in a directory: one file a key."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checkpoint import durability, layout
from checkpoint.errors import NotARunError
from checkpoint.stores.base import KeyTakenError, Store, explained
from checkpoint.stores.file_lock import WriterLock

__all__ = ["DirectoryStore"]


# Lock, note of the holder, temporary files. The documents of Zarr format 2 begin with a dot too.
_HIDDEN = (".lock", ".holder", durability.TEMPORARY_PREFIX)


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
        if self.root.exists() and not self.root.is_dir():
            raise NotARunError(
                f"{self.root} is a file, not a directory; nothing was changed. "
                "Give the path of a run, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}

    @property
    def name(self) -> str:
        return str(self.root)

    @property
    def place(self) -> Path:
        return Path(os.path.realpath(self.root))

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def has(self, key: str) -> bool:
        return (self.root / key).is_file()

    def keys(self, prefix: str = "") -> Iterator[str]:
        for folder, folders, names in os.walk(self.root / prefix.rpartition("/")[0]):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(self.root).as_posix()
            for name in names:
                key = name if below == "." else f"{below}/{name}"
                if key.startswith(prefix) and not name.startswith(_HIDDEN):
                    yield key

    def names(self, folder: str) -> list[str]:
        try:
            found = os.listdir(self.root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith(_HIDDEN))

    def write(self, values: Mapping[str, bytes]) -> None:
        with explained(self.name, self.root):
            durability.replace_many({self.root / key: value for key, value in values.items()})

    def create(self, key: str, value: bytes) -> None:
        with explained(self.name, self.root):
            try:
                durability.create(self.root / key, value)
            except FileExistsError:
                raise KeyTakenError(key) from None

    def remove(self, keys: Iterable[str]) -> None:
        with explained(self.name, self.root):
            for key in keys:
                durability.remove(self.root / key)

    def remove_all(self) -> None:
        super().remove_all()
        with explained(self.name, self.root):
            for folder, _, _ in os.walk(self.root, topdown=False):
                durability.remove_directory(Path(folder))  # the lock is in one

    def lock(self) -> None:
        folder = self.root / layout.LOG
        with explained(self.name, self.root):
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
