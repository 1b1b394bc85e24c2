"""The only module that asks the operating system to make bytes durable.

What it promises: when `replace` or `create` returns, the bytes survive the death of the process
and, as far as the file system and the disk honour ``fsync``, the loss of power. What it cannot
promise: a disk that lies about its cache, and network file systems without ``fsync`` semantics.

The order in `replace` and `create` must hold: the file's bytes are synced before the name that
readers look for exists, and the directory is synced after.

`within` is the descriptor of a directory. A relative path is looked up in that directory, even
if the directory was moved.
"""

import contextlib
import ctypes
import errno
import functools
import operator
import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "create",
    "cut",
    "make_directory",
    "make_file_durable",
    "make_temporary",
    "make_tree_durable",
    "open_directory",
    "open_for_appending",
    "publish",
    "remove",
    "remove_directory",
    "replace",
    "replace_many",
    "sync",
    "temporary_beside",
    "write_at",
]

TEMPORARY_PREFIX = ".tmp-"

# A temporary file must be new: in a shared folder another user may have put a link at its name.
_NEW = functools.reduce(
    operator.or_,
    (getattr(os, flag, 0) for flag in ("O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC")),
)

_MANY = 16


@functools.lru_cache(maxsize=1)
def _reports_errors_of_syncfs() -> bool:
    """Return whether ``syncfs`` exists and says when data could not be written (Linux 5.8)."""
    if sys.platform != "linux":
        return False
    major, minor = (int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return (major, minor) >= (5, 8) and hasattr(_libc(), "syncfs")


# Not every file system has hard links (exFAT, some network mounts).
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def replace(path: Path, data: bytes, within: int | None = None) -> None:
    """Write `data` to `path` atomically and durably, in place of what was there."""
    temporary = _write(path, data, within)
    os.replace(temporary, path, src_dir_fd=within, dst_dir_fd=within)
    _sync_directory(path.parent, within)


def replace_many(files: Mapping[Path, bytes], within: int | None = None) -> None:
    """Replace several files, each atomically; all are durable on return.

    The files may become visible in any order. Many files are synced with their file system as
    a whole, which is faster than one by one (`bench_replace_many` in `benchmarks/` says how much).
    """
    directories = {path.parent for path in files}
    to_sync = directories | _make_directories(directories, within)
    at_once = len(files) >= _MANY and _reports_errors_of_syncfs()
    written = [(_write(path, data, within, sync=not at_once), path) for path, data in files.items()]
    if at_once:
        _sync_file_system(written[0][0].parent, within)
    for temporary, path in written:
        os.replace(temporary, path, src_dir_fd=within, dst_dir_fd=within)
    if at_once:
        _sync_file_system(written[0][0].parent, within)
        return
    for directory in to_sync:
        _sync_directory(directory, within)


def create(path: Path, data: bytes, within: int | None = None) -> None:
    """Write `data` durably to a `path` that must not exist yet.

    Raises
    ------
    FileExistsError
        If `path` exists. Nothing was changed.
    """
    if _exists(path, within):  # nothing to write; the link below is what decides a race
        raise FileExistsError(path)
    temporary = _write(path, data, within)
    try:
        os.link(temporary, path, src_dir_fd=within, dst_dir_fd=within)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Without hard links the name appears before its bytes; a torn log entry is found by its
        # checksum.
        _write_exclusively(path, data, within)
    finally:
        os.unlink(temporary, dir_fd=within)
    _sync_directory(path.parent, within)


def open_directory(path: Path) -> int | None:
    """Open a directory to use its descriptor as `within`; None on systems that cannot.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no directory at the path.
    """
    if sys.platform == "win32":
        return None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_for_appending(path: Path, beginning: bytes, within: int | None = None) -> int:
    """Open a file for reading and writing; create it durably with `beginning` if it is missing.

    Returns
    -------
    int
        The descriptor.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC, dir_fd=within)
    except FileNotFoundError:
        replace(path, beginning, within)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC, dir_fd=within)


def make_temporary(path: Path, permissions: int, within: int | None = None) -> int:
    """Create a file for `publish`, open for reading and writing; return its descriptor."""
    descriptor = os.open(path, os.O_RDWR | _NEW, 0o600, dir_fd=within)
    try:
        os.fchmod(descriptor, permissions)
    except BaseException:
        os.close(descriptor)
        remove(path, within)
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
    """Return an unguessable path beside `path`, for a temporary file that may replace it."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}-{path.name}")


def publish(temporary: Path, path: Path, within: int | None = None) -> None:
    """Put a temporary file, synced before, in the place of `path`, atomically and durably."""
    os.replace(temporary, path, src_dir_fd=within, dst_dir_fd=within)
    _sync_directory(path.parent, within)


def remove(path: Path, within: int | None = None) -> None:
    """Remove a file if it is there. Not synced: a removal that is undone is harmless here."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=within)


def remove_directory(path: Path, within: int | None = None) -> None:
    """Remove a directory if it is empty. Not synced."""
    with contextlib.suppress(OSError):
        os.rmdir(path, dir_fd=within)


def make_directory(path: Path, within: int | None = None) -> None:
    """Make a directory and its missing parents, each durable in its own parent."""
    for directory in _make_directories({path}, within):
        _sync_directory(directory, within)


def make_tree_durable(root: Path, within: int | None = None) -> None:
    """Make everything below a directory durable, and the directory's name.

    A process that continues after a killed one sees all that it wrote, synced or not, and writes
    more that depends on it. Without this call a later power failure could lose the earlier writes
    and keep the later ones.
    """
    if _reports_errors_of_syncfs():
        _sync_file_system(root, within)
        return
    if within is not None:
        for _, _, names, folder in os.fwalk(root, dir_fd=within):
            for name in names:
                _sync_path(Path(name), folder)
            os.fsync(folder)
        _sync_directory(root / os.pardir, within)
        return
    for path, _, names in os.walk(root):
        for name in names:
            _sync_path(Path(path) / name)
        _sync_directory(Path(path))
    _sync_directory(root.parent)


def make_file_durable(descriptor: int, path: Path, within: int | None = None) -> None:
    """Make an open file and its name durable, even if a process that died wrote it."""
    os.fsync(descriptor)
    _sync_directory(path.parent, within)


def _exists(path: Path, within: int | None) -> bool:
    try:
        os.stat(path, dir_fd=within)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _make_directories(paths: Iterable[Path], within: int | None = None) -> set[Path]:
    """Make directories and their missing parents; return the directories to sync."""
    to_sync: set[Path] = set()
    for path in paths:
        missing = path
        new = []
        while not _exists(missing, within):
            new.append(missing)
            missing = missing.parent
        for directory in reversed(new):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, dir_fd=within)
            to_sync.add(directory.parent)
    return to_sync


def _write(path: Path, data: bytes, within: int | None = None, sync: bool = True) -> Path:
    """Write a temporary file beside `path`; return its path."""
    temporary = temporary_beside(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | _NEW, 0o666, dir_fd=within)
    except FileNotFoundError:
        make_directory(path.parent, within)
        descriptor = os.open(temporary, os.O_WRONLY | _NEW, 0o666, dir_fd=within)
    _write_and_close(descriptor, data, temporary, within, sync)
    return temporary


def _write_exclusively(path: Path, data: bytes, within: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | _NEW, 0o666, dir_fd=within)
    _write_and_close(descriptor, data, path, within, sync=True)


def _write_and_close(
    descriptor: int, data: bytes, path: Path, within: int | None, sync: bool
) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path, dir_fd=within)
        raise
    finally:
        os.close(descriptor)


def _sync_file_system(path: Path, within: int | None = None) -> None:
    """Make all that was written to the file system of `path` durable."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=within)
    try:
        if _libc().syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


@functools.lru_cache(maxsize=1)
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _sync_directory(path: Path, within: int | None = None) -> None:
    if sys.platform != "win32":  # a directory cannot be opened there
        _sync_path(path, within)


def _sync_path(path: Path, within: int | None = None) -> None:
    descriptor = os.open(path, os.O_RDONLY, dir_fd=within)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
