"""Who writes a run: a process that others can name, and tell whether it still lives."""

import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

__all__ = ["Holder", "is_clock"]


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
        When the process began, in the kernel's ticks, so that a reused id is not taken for it.
    token : str
        Differs for each time a run is taken.
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
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        text = f"process {self.pid} on {self.host} since {since}"
        return f"{text} (this one: close what holds it)" if self.pid == os.getpid() else text

    @property
    def is_on_this_machine(self) -> bool:
        """Whether this process could see the other one."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_certainly_dead(self) -> bool:
        """Whether it ran on this machine and does no longer."""
        if not self.is_on_this_machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return _start_of(self.pid) != self.started


def is_clock(value: object) -> bool:
    """Return whether a value is a time in seconds since 1970 that a calendar has."""
    return type(value) in (int, float) and 0 <= value < 1 << 36  # type: ignore[operator]


@lru_cache(maxsize=1)
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
