"""The process that writes a run, described so that others can tell whether it is alive."""

import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from checkpoint.format.json_object import parse_object
from checkpoint.printable import printable

__all__ = ["Holder", "clock_time", "holder_in", "is_clock", "noted_holder"]

_LONGEST_NOTE = 1 << 16
"""Bytes of a note that are read; what a writer notes takes a few hundred."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, as it describes itself.

    Attributes
    ----------
    host : str
    pid : int
    since : float
        When it took the run, in seconds since 1970.
    machine : str
        Names one boot of one machine and one namespace of process ids; empty if unknown.
    started : str
        Start of the process in ticks of the kernel, which tells it from a later one with its id.
    token : str
        Random text that differs each time a run is taken.
    """

    host: str
    pid: int
    since: float
    machine: str
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Self:
        pid = os.getpid()
        return cls(
            socket.gethostname(), pid, time.time(), _machine(), _start_of(pid), secrets.token_hex(8)
        )

    @classmethod
    def from_json(cls, document: Any) -> Self | None:
        """Return the holder that a document describes, or None if it describes none."""
        try:
            found = cls(**{name: document[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError):
            return None
        texts = (found.host, found.machine, found.started, found.token)
        is_process = type(found.pid) is int and 0 < found.pid < 1 << 31
        is_whole = is_process and is_clock(found.since) and all(isinstance(t, str) for t in texts)
        return found if is_whole else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        text = f"process {self.pid} on {printable(self.host)} since {clock_time(self.since)}"
        if self.is_this_process:
            return f"{text} (this process: close the run that it holds)"
        if (self.host, self.pid) == (socket.gethostname(), os.getpid()):
            return f"{text} (another machine or container of that name)"
        return text

    @property
    def is_this_process(self) -> bool:
        """Whether it is this process; host name and id do not suffice, as containers share both."""
        here = (_machine(), os.getpid(), _start_of(os.getpid()))
        if not self.machine and not here[0]:
            return (self.host, self.pid) == (socket.gethostname(), os.getpid())
        return (self.machine, self.pid, self.started) == here

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it belongs to this boot of this machine, and to this namespace of process ids."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_alive(self) -> bool | None:
        """Whether it lives; None if only the machine that it runs on can tell."""
        if self.is_on_this_machine:
            # One that was killed, and whose parent has not asked how it ended, is a zombie.
            return not self.is_certainly_dead and _stat_of(self.pid)[:1] != ["Z"]
        # Where the system names no boot, as on macOS, the name of the host has to do.
        is_here = not self.machine and not _machine() and self.host == socket.gethostname()
        return _exists(self.pid) if is_here else None

    @property
    def is_certainly_dead(self) -> bool:
        """Whether it ran on this machine and has ended."""
        if not self.is_on_this_machine:
            return False
        return not _exists(self.pid) or _start_of(self.pid) != self.started


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def holder_in(data: bytes | None) -> Holder | None:
    """Return the holder that the bytes of a note or of a claim name, or None if they name none."""
    try:
        return None if data is None else Holder.from_json(parse_object(data))
    except ValueError:
        return None


def noted_holder(note: Path, within: int | None = None) -> Holder | None:
    """Return the process that a note names, or None if it cannot be read; nothing is locked."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(note, flags, dir_fd=within), "rb") as file:
            return holder_in(file.read(_LONGEST_NOTE))
    except OSError:
        return None


def clock_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def is_clock(value: object) -> bool:
    """Return whether a value is a time in seconds since 1970 that can be shown as a date."""
    return type(value) in (int, float) and 0 <= value < 1 << 36  # type: ignore[operator]


@lru_cache(maxsize=1)
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    stat = _stat_of(pid)
    return stat[19] if len(stat) > 19 else ""


def _stat_of(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on; nothing if it says nothing."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
