"""Writes down every system call by which the package changes files, while it is made for real."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint.stores import durability

PASSED_ON = {
    "O_CREAT", "O_TRUNC", "O_RDWR", "O_RDONLY", "O_WRONLY", "O_EXCL", "O_CLOEXEC", "O_DIRECTORY",
    "close", "getpid", "stat", "fstat", "uname", "walk", "fwalk", "strerror", "PathLike",
}  # fmt: skip
"""What `durability` may use of `os` besides what is recorded. Anything else is an error here."""


@dataclass(frozen=True)
class Operation:
    """One system call.

    Attributes
    ----------
    kind : str
        ``make_file``, ``write``, ``cut``, ``rename``, ``link``, ``unlink``, ``make_folder``,
        ``remove_folder``, ``sync``, ``sync_folder``, ``sync_all``, or ``mark``: no call, but
        something that was promised from there on.
    path : str
        Below the root; of the file as it was opened.
    target : str
        Of ``rename`` and ``link``.
    offset : int
    data : bytes
    mark : object
    """

    kind: str
    path: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""
    mark: Any = None


class Recorder:
    """Stands in for `os` in `durability`: does what is asked, and takes note of it.

    Parameters
    ----------
    root : Path
        Only what happens below is recorded.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self._paths: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in PASSED_ON:
            raise AssertionError(f"durability calls os.{name}, which is not recorded")
        return getattr(os, name)

    def mark(self, mark: Any) -> None:
        """Note that something is promised from here on."""
        self._note("mark", mark=mark)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        existed = (self.root / self._below(path, dir_fd)).exists()
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
        self._paths[descriptor] = name = self._below(path, dir_fd)
        if not existed:
            self._note("make_file", name)
        elif flags & os.O_TRUNC:
            self._note("cut", name, offset=0)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        # Descriptors are written from their start on, once: the offset is what was written.
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        n = os.write(descriptor, data)
        self._note("write", self._paths[descriptor], offset=offset, data=bytes(data[:n]))
        return n

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        n = os.pwrite(descriptor, data, offset)
        self._note("write", self._paths[descriptor], offset=offset, data=bytes(data[:n]))
        return n

    def ftruncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)
        self._note("cut", self._paths[descriptor], offset=length)

    def fchmod(self, descriptor: int, mode: int) -> None:
        os.fchmod(descriptor, mode)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        name = self._paths[descriptor]
        self._note("sync_folder" if os.path.isdir(self.root / name) else "sync", name)

    fdatasync = fsync

    def replace(
        self,
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        os.replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        name, new = self._below(source, src_dir_fd), self._below(target, dst_dir_fd)
        self._paths = {key: new if old == name else old for key, old in self._paths.items()}
        self._note("rename", name, new)

    def link(
        self,
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._note("link", self._below(source, src_dir_fd), self._below(target, dst_dir_fd))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)
        self._note("unlink", self._below(path, dir_fd))

    def mkdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        os.mkdir(path, dir_fd=dir_fd)
        self._note("make_folder", self._below(path, dir_fd))

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        os.rmdir(path, dir_fd=dir_fd)
        self._note("remove_folder", self._below(path, dir_fd))

    def sync_file_system(self, path: Path, within: int | None = None) -> None:
        self._note("sync_all")

    def _below(self, path: Any, dir_fd: int | None = None) -> str:
        if dir_fd is not None:  # opened before the recording began, perhaps
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        name = os.path.relpath(path, self.root)
        assert not name.startswith(".."), f"{path} is not below {self.root}"
        return name

    def _note(self, kind: str, path: str = "", target: str = "", **more: Any) -> None:
        self.operations.append(Operation(kind, path, target, **more))


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Record what this process changes below a folder."""
    recorder = Recorder(root)
    system, sync_file_system = durability.os, durability._sync_file_system
    durability.os, durability._sync_file_system = recorder, recorder.sync_file_system
    try:
        yield recorder
    finally:
        durability.os, durability._sync_file_system = system, sync_file_system
