"""The only module that asks the operating system to make bytes durable.

What it promises: when `replace` or `create` returns, the bytes survive the death of the process
and, as far as the file system and the disk honour ``fsync``, the loss of power. What it cannot
promise: a disk that lies about its cache, and network file systems without ``fsync`` semantics.

The order in `replace` and `create` must hold: the file's bytes are synced before the name that
readers look for exists, and the directory is synced after.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = [
    "create",
    "cut",
    "make_directory",
    "make_temporary",
    "open_for_appending",
    "publish",
    "remove",
    "remove_directory",
    "replace",
    "replace_many",
    "settle",
    "settle_file",
    "sync",
    "temporary_beside",
    "write_at",
]

TEMPORARY_PREFIX = ".tmp-"

_NUMBERS = itertools.count()  # threads may write the same key

_MANY = 16


@lru_cache(maxsize=1)
def _reports_errors_of_syncfs() -> bool:
    """Return whether ``syncfs`` exists and says when data could not be written (Linux 5.8)."""
    if sys.platform != "linux":
        return False
    major, minor = (int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return (major, minor) >= (5, 8) and hasattr(_libc(), "syncfs")


# Not every file system has hard links (exFAT, some network mounts).
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def replace(path: Path, data: bytes) -> None:
    """Write `data` to `path`, in place of what was there, atomically."""
    temporary = _write(path, data)
    os.replace(temporary, path)
    _sync_directory(path.parent)


def replace_many(files: Mapping[Path, bytes]) -> None:
    """Replace several files, each atomically; all are durable on return.

    The files may become visible in any order. Many files are synced with their file system as
    a whole, which is faster than one by one (`bench_replace_many` in `benchmarks/` says how much).
    """
    directories = {path.parent for path in files}
    to_sync = directories | _make_directories(directories)
    at_once = len(files) >= _MANY and _reports_errors_of_syncfs()
    written = [(_write(path, data, sync=not at_once), path) for path, data in files.items()]
    if at_once:
        _sync_file_system(written[0][0].parent)
    for temporary, path in written:
        os.replace(temporary, path)
    if at_once:
        _sync_file_system(written[0][0].parent)
        return
    for directory in to_sync:
        _sync_directory(directory)


def create(path: Path, data: bytes) -> None:
    """Write `data` to a `path` that must not exist yet.

    Raises
    ------
    FileExistsError
        If `path` exists. Nothing was changed.
    """
    if path.exists():  # nothing to write; the link below is what decides a race
        raise FileExistsError(path)
    temporary = _write(path, data)
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Without hard links the name appears before its bytes; the checksum of a log entry
        # is what tells a torn one.
        _write_exclusively(path, data)
    finally:
        os.unlink(temporary)
    _sync_directory(path.parent)


def open_for_appending(path: Path, beginning: bytes) -> int:
    """Open a file for reading and writing; one that is made begins, durably, with some bytes.

    Returns
    -------
    int
        The descriptor.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        replace(path, beginning)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def make_temporary(path: Path, permissions: int) -> int:
    """Make a file for `publish`, open for reading and writing; return its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        os.fchmod(descriptor, permissions)
    except BaseException:
        os.close(descriptor)
        remove(path)
        raise
    return descriptor


def write_at(descriptor: int, offset: int, data: bytes) -> None:
    """Write bytes at an offset of an open file; they are durable after `sync`."""
    view = memoryview(data)
    while view:
        n = os.pwrite(descriptor, view, offset)
        view, offset = view[n:], offset + n


def sync(descriptor: int) -> None:
    """Make what was written to an open file durable, with its length."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def cut(descriptor: int, length: int) -> None:
    """Cut an open file to a length, durably."""
    os.ftruncate(descriptor, length)
    os.fsync(descriptor)


def temporary_beside(path: Path) -> Path:
    """Return a path for a temporary file that may take the place of `path`."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_NUMBERS)}-{path.name}")


def publish(temporary: Path, path: Path) -> None:
    """Put a temporary file, synced before, in the place of `path`, atomically and durably."""
    os.replace(temporary, path)
    _sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there. Not synced: a removal that is undone is harmless here."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_directory(path: Path) -> None:
    """Remove a directory if it is empty. Not synced."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, each durable in its own parent."""
    for directory in _make_directories({path}):
        _sync_directory(directory)


def settle(root: Path) -> None:
    """Make durable what is below a directory, its own name included.

    Who goes on where a killed process stopped sees all that it wrote, synced or not, and builds
    on it. Without this a power failure later could take away what lies below and leave what was
    built.
    """
    if _reports_errors_of_syncfs():
        _sync_file_system(root)
        return
    for folder, _, names in os.walk(root):
        for name in names:
            _sync_path(Path(folder) / name)
        _sync_directory(Path(folder))
    _sync_directory(root.parent)


def settle_file(descriptor: int, path: Path) -> None:
    """Make an open file durable under its name, whoever wrote it; see `settle`."""
    os.fsync(descriptor)
    _sync_directory(path.parent)


def _make_directories(paths: Iterable[Path]) -> set[Path]:
    """Make directories and their missing parents; return those that must be synced for it."""
    to_sync: set[Path] = set()
    for path in paths:
        missing = path
        new = []
        while not missing.is_dir():
            new.append(missing)
            missing = missing.parent
        for directory in reversed(new):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            to_sync.add(directory.parent)
    return to_sync


def _write(path: Path, data: bytes, sync: bool = True) -> Path:
    """Write a temporary file beside `path`."""
    temporary = temporary_beside(path)
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except FileNotFoundError:
        make_directory(path.parent)
        descriptor = os.open(temporary, flags, 0o666)
    _write_and_close(descriptor, data, temporary, sync)
    return temporary


def _write_exclusively(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    _write_and_close(descriptor, data, path, sync=True)


def _write_and_close(descriptor: int, data: bytes, path: Path, sync: bool) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _sync_file_system(path: Path) -> None:
    """Make all that was written to the file system of `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc().syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


@lru_cache(maxsize=1)
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _sync_directory(path: Path) -> None:
    if sys.platform != "win32":  # a directory cannot be opened there
        _sync_path(path)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
