"""A run in a directory: one file per key.

As any store, a directory may come from a person who is not trusted. Its own path may be a link,
but nothing inside it may be: links, pipes and devices are refused at every key.
"""

import contextlib
import errno
import functools
import operator
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from checkpoint.errors import (
    CheckpointError,
    DamagedStoreError,
    NotARunError,
)
from checkpoint.format import layout
from checkpoint.stores import durability
from checkpoint.stores.base import (
    KeyTakenError,
    Store,
    check_encodable,
    checked_key,
)
from checkpoint.stores.claim_lock import ClaimLock
from checkpoint.stores.claims import STALE_AFTER, Claim
from checkpoint.stores.file_lock import NoLocksError, WriterLock
from checkpoint.stores.held import HeldFolder, moved_error
from checkpoint.stores.holder import Holder, noted_holder
from checkpoint.stores.ways_out import explained, unreadable

__all__ = ["DirectoryStore"]


# The lock, the note of its holder, and temporary files. Other names that begin with a dot are
# keys: the documents of Zarr format 2.
_HIDDEN = (".lock", ".holder", durability.TEMPORARY_PREFIX)

# Opening a pipe would block, and a link can lead out of the store.
_FLAGS = ("O_RDONLY", "O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")
_OPEN = functools.reduce(operator.or_, (getattr(os, flag, 0) for flag in _FLAGS))

_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)

_LOCK, _NOTE = f"{layout.LOG}/.lock", f"{layout.LOG}/.holder"

_NO_SUCH_KEY = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class DirectoryStore(Store):
    """Keys as files below a directory, as in zarr's LocalStore, and synced.

    Parameters
    ----------
    root : path
        The directory. It is created when the first key is written. A relative path is resolved
        when the store is made.
    read_only : bool

    Notes
    -----
    While the store is locked, all operations are relative to the directory that `lock` opened, in
    this process and in those that it starts. If the directory is moved meanwhile, the next change
    raises `StoreMovedError`. After `unlock` the store still changes no other directory.

    Durability: `write` and `create` return when file and directory are synced.
    """

    writes_in_workers = True

    _stale_after = STALE_AFTER

    def __init__(self, root: str | os.PathLike[str], *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._name = str(Path(root))
        self.root = Path(os.path.abspath(root))
        self._lock: WriterLock | ClaimLock | None = None
        self._claim: Claim | None = None
        self._held: HeldFolder | None = None
        self._was_held: HeldFolder | None = None
        self._folders: set[str] = set()
        check_encodable(self._name, str(self.root))
        if self.root.exists() and not self.root.is_dir():
            raise NotARunError(
                f"{self.root} is a file, not a directory; nothing was changed. "
                "Give the path of a run, or one that does not exist yet."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_folders": set()}

    def __copy__(self) -> "DirectoryStore":
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__getstate__(), _held=None, _was_held=None, _claim=None)
        return other

    @property
    def name(self) -> str:
        return self._name

    @property
    def place(self) -> Path:
        return Path(os.path.realpath(self.root))

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            descriptor = os.open(path, _OPEN, dir_fd=self._within)
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
            for name, is_folder in self._listed(folder):
                key = f"{folder}/{name}" if folder else name
                if is_folder:
                    if not name.startswith("."):
                        folders.append(key)
                elif key.startswith(prefix) and not name.startswith(_HIDDEN):
                    yield key

    def names(self, folder: str) -> list[str]:
        found = (name for name, _ in self._listed(folder))
        return sorted(name for name in found if not name.startswith(_HIDDEN))

    def write(self, values: Mapping[str, bytes]) -> None:
        with self._changing() as within:
            files = {self._path(key): value for key, value in values.items()}
            durability.replace_many(files, within)

    def create(self, key: str, value: bytes) -> None:
        with self._changing() as within:
            try:
                durability.create(self._path(key), value, within)
            except FileExistsError:
                raise KeyTakenError(key) from None

    def remove(self, keys: Iterable[str]) -> None:
        with self._changing() as within:
            for key in keys:
                durability.remove(self._path(key), within)

    def remove_all(self) -> None:
        super().remove_all()
        with self._changing() as within:
            for folder, _ in self._folders_below():
                durability.remove_directory(folder, within)  # the lock is in one

    def lock(self) -> None:
        with explained(self.name, self.root, "lock"):
            durability.make_directory(self.root)
            held = HeldFolder(self.root, self.name)
            self._held, self._was_held, self._folders = held, None, set()
            try:
                self._lock = self._acquire(held)
                try:
                    self._remove_leftovers()
                    self.make_durable()
                except BaseException:
                    self._lock.release()
                    raise
            except BaseException:
                self._lock = self._held = self._claim = None
                held.close()
                raise

    def make_durable(self) -> None:
        with explained(self.name, self.root):
            root = self.root if self._within is None else Path()
            durability.make_tree_durable(root, self._within)

    def writer_holder(self) -> Holder | None:
        return noted_holder(self._path(_NOTE), self._within) or super().writer_holder()

    def unlock(self) -> None:
        lock, self._lock = self._lock, None
        held, self._held = self._held, None
        self._claim = None
        try:
            if lock is not None:
                lock.release()
        finally:
            if held is not None:
                held.close()
                held.unlocked()
                self._was_held = held

    def check_held(self) -> None:
        held = self._held or self._was_held
        if held is not None:
            held.check()
        if self._claim is not None:
            self._claim.check()

    def finish(self) -> None:
        if self._claim is not None:
            self._claim.tidy()

    def _acquire(self, held: HeldFolder) -> WriterLock | ClaimLock:
        within = held.descriptor
        durability.make_directory(self._path(_LOCK).parent, within)
        lock = WriterLock(self._path(_LOCK), self._path(_NOTE), within, guarded=within)
        try:
            lock.acquire(self.name, self._last_commit)
        except NoLocksError:
            return self._claimed()
        held.locked_by(Path(_LOCK), lock.identity)
        return lock

    def _claimed(self) -> ClaimLock:
        """Claim the run, as stores without locks do."""
        store = copy(self)
        store._held = self._held
        lock = ClaimLock(store, layout.CLAIM, self.name, self._stale_after)
        lock.acquire(store._last_commit)
        self._claim = lock.claim
        return lock

    @property
    def _within(self) -> int | None:
        """Descriptor of the locked directory; None if there is no lock, or no such descriptor."""
        return None if self._held is None else self._held.descriptor

    @contextlib.contextmanager
    def _changing(self) -> Iterator[int | None]:
        """Check that the store may be changed, and yield the descriptor to change it within."""
        with explained(self.name, self.root):
            self.check_held()
            try:
                yield self._within
            except FileNotFoundError as error:
                if self._held is None:
                    raise
                # A folder is gone: the store is being removed, and its root is removed last.
                raise moved_error(self.name, self.root) from error

    def _last_commit(self) -> float | None:
        logs = [f"{layout.LOG}/c/{chain}" for chain in self.names(f"{layout.LOG}/c")]
        times = []
        for folder in (layout.DRAW_IDX, *logs):
            for name in self.names(folder):
                with contextlib.suppress(OSError):
                    path = self._path(f"{folder}/{name}")
                    times.append(os.stat(path, dir_fd=self._within).st_mtime)
        return max(times, default=None)

    def _remove_leftovers(self) -> None:
        """Remove temporary files of writers that died; there is no other writer now."""
        for folder, names in self._folders_below():
            for name in names:
                if name.startswith(durability.TEMPORARY_PREFIX):
                    durability.remove(folder / name, self._within)

    def _folders_below(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield all folders with the names of their files, the deepest first."""
        if (within := self._within) is None:
            for path, _, names in os.walk(self.root, topdown=False):
                yield Path(path), names
            return
        for path, _, names, _ in os.fwalk(topdown=False, dir_fd=within):
            yield Path(path), names

    def _path(self, key: str) -> Path:
        """Return the path of a key's file, after a check that none of its folders is a link.

        Raises
        ------
        ArgumentError
            If the key leads out of the store.
        DamagedStoreError
            If one of the folders is a link.
        """
        unknown = []
        folder = checked_key(key).rpartition("/")[0]
        if not key.isascii():
            check_encodable(self.name, key)
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
        return self._at(key)

    def _at(self, key: str) -> Path:
        """Return the path of a key, relative to the locked directory if there is one."""
        return self.root / key if self._within is None else Path(key)

    def _listed(self, folder: str) -> list[tuple[str, bool]]:
        """Return the names in a folder, and whether each is a folder itself."""
        # `_path` checks the folders of a key: with any name below it, `folder` is checked too.
        path = self._path(f"{folder}/any").parent if folder else self._at("")
        try:
            with self._scanned(path) as found:
                return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        except OSError as error:
            if error.errno in _NO_SUCH_KEY:
                return []
            raise self._unreadable(folder, error) from error

    @contextlib.contextmanager
    def _scanned(self, path: Path) -> Iterator[Iterable[os.DirEntry[str]]]:
        if (within := self._within) is None:
            with os.scandir(path) as found:
                yield found
            return
        descriptor = os.open(path, _LIST, dir_fd=within)
        try:
            with os.scandir(descriptor) as found:
                yield found
        finally:
            os.close(descriptor)

    def _mode(self, key: str) -> int:
        """Return the file mode at a key, without following links; 0 if there is nothing."""
        try:
            path = self._at(key)
            return os.stat(path, dir_fd=self._within, follow_symlinks=False).st_mode
        except OSError as error:
            if error.errno in _NO_SUCH_KEY:
                return 0
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: OSError) -> CheckpointError:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # of a link, and of a socket
            return self._irregular(key)
        return unreadable(self.name, key, error)

    def _irregular(self, key: str) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self.name}: {key} is a link, a pipe or a device; expected a file or a folder. It "
            "was not followed, because it can lead out of the store. If you trust the store, "
            "replace it with what it leads to."
        )
