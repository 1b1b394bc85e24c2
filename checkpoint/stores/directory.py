"""A run in a directory: one file a key."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import filelock

from checkpoint import durability, layout
from checkpoint.errors import NotARunError, RunLockedError, StoreWriteError
from checkpoint.stores.base import KeyTakenError, Store

__all__ = ["DirectoryStore"]


class DirectoryStore(Store):
    """Keys as files below a directory; the layout of zarr's LocalStore.

    Parameters
    ----------
    root : path
        The directory. It is made when the first key is written.

    Notes
    -----
    Durability: `put` and `create` return when file and directory are synced.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._lock: filelock.BaseFileLock | None = None
        if self.root.exists() and not self.root.is_dir():
            raise NotARunError(
                f"{self.root} is a file, not a directory; nothing was changed. "
                "Give the path of a run, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "_lock": None}

    @property
    def name(self) -> str:
        return str(self.root)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def contains(self, key: str) -> bool:
        return (self.root / key).is_file()

    def names(self, prefix: str) -> list[str]:
        try:
            found = os.listdir(self.root / prefix)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith("."))

    def put(self, values: Mapping[str, bytes]) -> None:
        with self._explain_failure():
            durability.replace_many({self.root / key: value for key, value in values.items()})

    def create(self, key: str, value: bytes) -> None:
        with self._explain_failure():
            try:
                durability.create(self.root / key, value)
            except FileExistsError:
                raise KeyTakenError(key) from None

    def delete(self, keys: Iterable[str]) -> None:
        with self._explain_failure():
            for key in keys:
                durability.remove(self.root / key)

    def lock(self) -> None:
        folder = self.root / layout.LOG
        with self._explain_failure():
            durability.make_directory(folder)
            # The workers of a killed run hold the lock until they are gone, moments later.
            lock = filelock.FileLock(folder / ".lock", timeout=2, thread_local=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise RunLockedError(
                    f"{self.name} is being written by {self._holder()}. "
                    "Wait until that run ends or stop it, then run this again; "
                    "checkpoint.open() reads it meanwhile."
                ) from None
            claim = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            (folder / ".holder").write_text(json.dumps(claim))
            self._remove_leftovers()
        self._lock = lock

    def unlock(self) -> None:
        if self._lock is not None:
            durability.remove(self.root / layout.LOG / ".holder")
            self._lock.release()
            self._lock = None

    def _remove_leftovers(self) -> None:
        """Remove temporary files of writers that died; there is no other writer now."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(durability.TEMPORARY_PREFIX):
                    durability.remove(Path(folder) / name)

    def _holder(self) -> str:
        try:
            claim = json.loads((self.root / layout.LOG / ".holder").read_text())
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(claim["since"]))
            return f"process {claim['pid']} on {claim['host']} since {since}"
        except (OSError, ValueError, KeyError):
            return "another process"

    @contextlib.contextmanager
    def _explain_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, StoreWriteError | RunLockedError):
                raise
            raise StoreWriteError(
                f"Cannot write to {self.name}: {error.strerror or error} "
                f"({error.filename or self.root}). What was recorded before is intact. "
                "Free space or mend the permissions, then run the same command again."
            ) from error
