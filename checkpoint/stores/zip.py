"""A run in one zip file, which survives a kill."""

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checkpoint import durability
from checkpoint.errors import (
    CheckpointWarning,
    DamagedStoreError,
    NotARunError,
    RunLockedError,
    StoreWriteError,
)
from checkpoint.stores.base import KeyTakenError, Store, explained
from checkpoint.stores.file_lock import WriterLock
from checkpoint.stores.zip_archive import Archive, Repair

__all__ = ["ZipStore"]


class ZipStore(Store):
    """Keys as entries of a zip file, as in zarr's ZipStore, appended and synced.

    Opens what zarr cannot: a file whose writer was killed, or is at work now.

    Parameters
    ----------
    path : path
        The file. It is made when the first key is written.
    read_only : bool

    Notes
    -----
    Durability: `write` and `create` return when the entries are synced. Directory and end record
    follow at least every second, or every 64 KiB, while the directory is small.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._name = os.fspath(path)
        # Of a link, what it leads to: the lock lies beside it, and compacting replaces it.
        self.path = Path(os.path.realpath(path))
        self._mutex = threading.RLock()
        self._lock: WriterLock | None = None
        self._archive: Archive | None = None
        self._torn_at = -1
        if self.path.exists() and not self.path.is_file():
            what = "a directory" if self.path.is_dir() else "a pipe or a device"
            raise NotARunError(
                f"{self.path} is {what}, not a zip file; nothing was changed. "
                "Give the path of a file, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mutex": None, "_lock": None, "_archive": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _mutex=threading.RLock())

    def __copy__(self) -> "ZipStore":
        return type(self)(self._name, read_only=self.read_only)

    @property
    def name(self) -> str:
        return self._name

    @property
    def place(self) -> Path:
        return self.path

    def read(self, key: str) -> bytes | None:
        with self._reading() as archive:
            if archive is None:
                return None
            try:
                return archive.read(key)
            except DamagedStoreError:
                if self._lock is not None:
                    raise
        # A writer may have taken back what it could not sync, and written something else.
        with self._mutex:
            self._close_archive()
            again = self._look()
            return None if again is None else again.read(key)

    def has(self, key: str) -> bool:
        with self._reading() as archive:
            return archive is not None and key in archive.entries

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._reading() as archive:
            return iter(
                [key for key in archive.entries if key.startswith(prefix)] if archive else []
            )

    def names(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return sorted({key[len(prefix) :].split("/", 1)[0] for key in self.keys(prefix)})

    def write(self, values: Mapping[str, bytes]) -> None:
        with self._writing() as archive:
            archive.append(values.items())
            self._compact_if_due(archive)

    def create(self, key: str, value: bytes) -> None:
        with self._writing() as archive:
            if key in archive.entries:
                raise KeyTakenError(key)
            archive.append([(key, value)])
            self._compact_if_due(archive)

    def remove(self, keys: Iterable[str]) -> None:
        with self._writing() as archive:
            archive.remove(keys)

    def lock(self) -> None:
        with self._mutex, explained(self.name, self.path):
            lock = self._acquire()
            try:
                self._close_archive()
                self._archive = Archive(self.path, writable=True)
            except BaseException:
                lock.release()
                raise
            self._lock = lock

    def unlock(self) -> None:
        with self._mutex:
            if self._lock is None:
                return
            try:
                with contextlib.suppress(OSError):  # it only helps others; what counts is synced
                    if self._archive is not None:
                        self._archive.write_directory()
                self._close_archive()
            finally:
                self._lock.release()
                self._lock = None

    def mend(self) -> None:
        with self._reading() as archive:
            is_whole = archive is None or not (archive.found.has_walked or archive.n_torn)
        if not is_whole and not self.read_only:
            with contextlib.suppress(RunLockedError, StoreWriteError):
                self.repair()

    def noticed(self) -> list[str]:
        with self._reading() as archive:
            return [] if archive is None else [*archive.found.damaged]

    def faults(self) -> tuple[list[str], list[str]]:
        with self._reading() as archive:
            if archive is None:
                return [], []
            found = archive.check()
        notes = []
        if found.has_walked:
            notes.append(
                "the zip file has no directory at its end: its entries were found by their "
                "headers. `checkpoint repair` writes one."
            )
        if found.n_torn:
            notes.append(
                f"{found.n_torn} bytes at the end of the zip file are no whole entry: they are "
                "being written, or were when the writer died. The next writer cuts them off."
            )
        return found.damaged, notes

    def finish(self) -> None:
        with self._writing() as archive:
            self._compact(archive)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one writer for a while."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def compact(self) -> None:
        """Drop what was superseded, in a copy that takes the place of the file.

        Raises
        ------
        StoreWriteError
            If there is no space for the copy.

        Notes
        -----
        Durability: whatever happens, the old file or the new one is there, whole.
        """
        with self._writing() as archive:
            archive.compact()

    def repair(self) -> Repair:
        """Check every value, and put a whole file in the place of one that is torn.

        Raises
        ------
        NotARunError
            If it is no zip file.
        RunLockedError
            If it is being written.
        StoreWriteError
            If there is no space for the copy.
        """
        self._check_writable()
        with self._mutex, explained(self.name, self.path):
            lock = self._acquire()
            archive = None
            try:
                archive = Archive(self.path, writable=False)
                found = archive.check()
                if found.was_replaced:
                    archive.keep_tail()
                    archive.compact()
                return found
            finally:
                if archive is not None:
                    archive.close()
                lock.release()

    def close(self) -> None:
        self.unlock()
        with self._mutex:
            self._close_archive()
        super().close()

    def _acquire(self) -> WriterLock:
        durability.make_directory(self.path.parent)
        lock = WriterLock(self._beside(".lock"), self._beside(".holder"))
        lock.acquire(self.name, self._last_commit)
        self._remove_leftovers()
        return lock

    def _compact_if_due(self, archive: Archive) -> None:
        if archive.should_compact:
            self._compact(archive)

    def _compact(self, archive: Archive) -> None:
        try:
            archive.compact()
        except OSError as error:
            warnings.warn(
                f"{self.name} could not be compacted: {error.strerror or error}. All that is "
                "recorded is in it; `checkpoint compact` can be run later.",
                CheckpointWarning,
                stacklevel=2,
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Archive | None]:
        with self._mutex:
            yield self._archive if self._lock is not None else self._look()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Archive]:
        """Yield the archive for writing; a single write by zarr takes and frees the lock."""
        self._check_writable()
        with self._mutex:
            is_ours = self._lock is not None
            if not is_ours:
                self.lock()
            try:
                assert self._archive is not None
                with explained(self.name, self.path):
                    yield self._archive
            finally:
                if not is_ours:
                    self.unlock()

    def _look(self) -> Archive | None:
        """Return the archive as it is now, beside whoever writes it."""
        try:
            stat = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self._close_archive()
            return None
        archive = self._archive
        if archive is not None and archive.identity == (stat.st_dev, stat.st_ino):
            if stat.st_size == archive.found.end:
                return archive
            if stat.st_size > archive.found.end:
                archive.catch_up()
                if archive.found.end == stat.st_size or stat.st_size == self._torn_at:
                    return archive
        self._close_archive()
        with contextlib.suppress(FileNotFoundError):
            self._archive = Archive(self.path, writable=False)
            self._torn_at = stat.st_size  # if it is torn at that size, it need not be read again
        return self._archive

    def _close_archive(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f".{self.path.name}{suffix}")

    def _last_commit(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _remove_leftovers(self) -> None:
        ours = re.compile(
            rf"{re.escape(durability.TEMPORARY_PREFIX)}\d+-\d+-{re.escape(self.path.name)}"
        )
        for name in os.listdir(self.path.parent):
            if ours.fullmatch(name):
                durability.remove(self.path.parent / name)
