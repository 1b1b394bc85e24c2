"""A run in one zip file, which can be read after its writer was killed."""

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checkpoint.errors import (
    CheckpointError,
    CheckpointWarning,
    DamagedStoreError,
    NotARunError,
    RunLockedError,
    StoreWriteError,
    warn_caller,
)
from checkpoint.stores import durability
from checkpoint.stores.base import KeyTakenError, Store, check_encodable, locked_error
from checkpoint.stores.claim_lock import ClaimLock
from checkpoint.stores.directory import DirectoryStore
from checkpoint.stores.file_lock import NoLocksError, WriterLock, is_guarded_taken, set_free
from checkpoint.stores.held import HeldFolder, moved_error
from checkpoint.stores.holder import Holder, noted_holder
from checkpoint.stores.ways_out import explained, readable
from checkpoint.stores.zip.archive import Archive, Repair

__all__ = ["ZipStore"]


class ZipStore(Store):
    """Keys as entries of a zip file, as in zarr's ZipStore, appended and synced.

    Unlike zarr's, it opens a file whose writer was killed, or is writing now.

    Parameters
    ----------
    path : path
        The file. It is created when the first key is written. A relative path is resolved when
        the store is made.
    read_only : bool

    Notes
    -----
    If the file is moved, removed or replaced while it is locked, the next change raises an error.

    Durability: `write` and `create` return when the entries are synced. Directory and end record
    follow at least every second, or every 64 KiB, while the directory is small.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._name = os.fspath(path)
        check_encodable(self._name, self._name)
        # Links are resolved: the lock lies beside the file itself, and compacting replaces it.
        self.path = Path(os.path.realpath(path))
        self._mutex = threading.RLock()
        self._lock: WriterLock | ClaimLock | None = None
        self._held: HeldFolder | None = None
        self._is_lost = False
        self._archive: Archive | None = None
        self._torn_at = -1
        if self.path.exists() and not self.path.is_file():
            what = "a directory" if self.path.is_dir() else "a pipe or a device"
            raise NotARunError(
                f"{self.path} is {what}, not a zip file; nothing was changed. "
                "Give the path of a file, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mutex": None, "_lock": None, "_held": None, "_archive": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _mutex=threading.RLock())

    def __copy__(self) -> "ZipStore":
        other = type(self)(self.path, read_only=self.read_only)
        other._name = self._name
        return other

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
        # A writer may have cut off what it could not sync, and written something else there.
        with self._mutex, self._readable():
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
        with self._mutex, explained(self.name, self.path, "lock"):
            held, lock = self._acquire()
            try:
                self._close_archive()
                self._archive = self._opened(held, lock)
            except BaseException:
                self._close_archive()
                lock.release()
                held.close()
                raise
            self._held, self._lock, self._is_lost = held, lock, False

    def writer_holder(self) -> Holder | None:
        beside = [self.path.with_name(f".{self.path.name}{end}") for end in (".holder", ".claim")]
        return noted_holder(beside[0]) or noted_holder(beside[1])

    def unlock(self) -> None:
        with self._mutex:
            if self._lock is None:
                return
            with contextlib.suppress(OSError):
                self._is_lost = True
                self.check_held()
                self._is_lost = False
            try:
                with contextlib.suppress(OSError):  # all entries are synced
                    if self._archive is not None:
                        self._archive.write_directory()
                        set_free(self._archive.descriptor)
                self._close_archive()
            finally:
                self._lock.release()
                self._lock = None
                if self._held is not None:
                    self._held.close()
                    self._held = None

    def check_held(self) -> None:
        if self._is_lost and self._held is None:
            raise moved_error(self.name, self.path)
        if self._held is None or self._archive is None:
            return
        self._held.check()
        if isinstance(self._lock, ClaimLock):
            self._lock.claim.check()
        if not self._archive.is_at_path():
            raise moved_error(self.name, self.path)

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
                f"{found.n_torn} bytes at the end of the zip file are not a whole entry: they are "
                "being written, or were when the writer died. The next writer cuts them off."
            )
        return found.damaged, notes

    def finish(self) -> None:
        with self._writing() as archive:
            self._compact(archive)
            if isinstance(self._lock, ClaimLock):
                self._lock.claim.tidy()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock within a ``with`` block."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def compact(self) -> None:
        """Replace the file by a copy without superseded values.

        Raises
        ------
        StoreWriteError
            If there is no space for the copy.

        Notes
        -----
        Durability: after a crash at any time, either the old file or the new one is there, whole.
        """
        with self._writing() as archive:
            archive.compact()

    def repair(self) -> Repair:
        """Check every value, and replace a torn file by a repaired copy.

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
            held, lock = self._acquire()
            archive = None
            try:
                archive = Archive(self.path, writable=False, within=held.descriptor)
                found = archive.check()
                if found.was_replaced:
                    archive.keep_tail()
                    archive.compact()
                return found
            finally:
                if archive is not None:
                    archive.close()
                lock.release()
                held.close()

    def close(self) -> None:
        self.unlock()
        with self._mutex:
            self._close_archive()
        super().close()

    def _acquire(self) -> tuple[HeldFolder, WriterLock | ClaimLock]:
        durability.make_directory(self.path.parent)
        held = HeldFolder(self.path.parent, self.name)
        try:
            names = [Path(f".{self.path.name}{suffix}") for suffix in (".lock", ".holder")]
            within = held.descriptor
            folder = self.path.parent if within is None else Path()
            lock: WriterLock | ClaimLock
            lock = file_lock = WriterLock(folder / names[0], folder / names[1], within)
            try:
                file_lock.acquire(self.name, self._last_commit)
                held.locked_by(names[0], file_lock.identity)
            except NoLocksError:
                lock = self._claimed(held)
        except BaseException:
            held.close()
            raise
        self._remove_leftovers(within)
        return held, lock

    def _claimed(self, held: HeldFolder) -> ClaimLock:
        """Claim the file by a claim beside it, as stores without locks do."""
        beside = DirectoryStore(self.path.parent)
        beside._held = held
        lock = ClaimLock(beside, f".{self.path.name}.claim", self.name, beside._stale_after)
        lock.acquire(self._last_commit)
        return lock

    def _opened(self, held: HeldFolder, lock: WriterLock | ClaimLock) -> Archive:
        """Open the file for writing, and lock it too, as the lock beside it can be removed."""
        archive = Archive(self.path, writable=True, within=held.descriptor)
        if is_guarded_taken(archive.descriptor) and lock.has_rival:
            lock.remove_if_new()
            archive.close()
            raise locked_error(self.name, "another process", self._last_commit())
        return archive

    def _compact_if_due(self, archive: Archive) -> None:
        if archive.should_compact:
            self._compact(archive)

    def _compact(self, archive: Archive) -> None:
        try:
            archive.compact()
        except CheckpointError:
            raise
        except OSError as error:
            warn_caller(
                f"{self.name} could not be compacted: {error.strerror or error}. All that is "
                "recorded is in it. Run `checkpoint compact` later to make it smaller.",
                CheckpointWarning,
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Archive | None]:
        with self._mutex, self._readable():
            yield self._archive if self._lock is not None else self._look()

    def _readable(self) -> contextlib.AbstractContextManager[None]:
        return readable(self.name, "the file")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Archive]:
        """Yield the archive for writing; if it is not locked, lock it for this change only."""
        self._check_writable()
        with self._mutex:
            is_ours = self._lock is not None
            if not is_ours:
                self.check_held()
                self.lock()
            try:
                assert self._archive is not None
                with explained(self.name, self.path):
                    self.check_held()
                    yield self._archive
            finally:
                if not is_ours:
                    self.unlock()

    def _look(self) -> Archive | None:
        """Return the archive as it is now, for reading without the lock; None if there is none."""
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

    def _last_commit(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _remove_leftovers(self, within: int | None) -> None:
        ours = re.compile(
            rf"{re.escape(durability.TEMPORARY_PREFIX)}(\d+-\d+|[0-9a-f]{{16}})-{re.escape(self.path.name)}"
        )
        folder = self.path.parent if within is None else Path()
        for name in os.listdir(self.path.parent if within is None else within):
            if ours.fullmatch(name):
                durability.remove(folder / name, within)
