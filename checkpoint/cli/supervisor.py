"""A process that starts a script, passes signals on to it, and starts it again if it crashes."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from checkpoint.errors import CheckpointError
from checkpoint.runs.supervised import STORES

__all__ = ["Supervisor"]

_PASSED_ON = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")
    if hasattr(signal, name)
]

_WHEN = "%Y-%m-%d %H:%M:%S"

_LONGEST_PAUSE = 60.0
"""Seconds to which the pause before a start grows."""


class Supervisor:
    """Starts a command again and again, until it succeeds, is told to stop, or gains nothing.

    Parameters
    ----------
    command : sequence of str
    retries : int
        Starts in a row that may gain no draw.
    on_oom : {"retry", "stop"}
        What to do if it is killed by SIGKILL, as by the kernel when memory is short.
    final : sequence of int
        Exit codes after which it is not started again, beside 0.
    log : Path or None
        File that takes the lines too. Unless given, it lies beside the first store.
    pause : float
        Seconds before it is started again; doubled each time that nothing was gained.
    say : callable
        Called with each line.
    """

    def __init__(
        self,
        command: Sequence[str],
        retries: int,
        on_oom: str,
        final: Sequence[int],
        log: Path | None,
        pause: float,
        say: Callable[[str], None],
    ) -> None:
        self._command = list(command)
        self._retries = retries
        self._on_oom = on_oom
        self._final = {0, *final, *(128 + number for number in _PASSED_ON)}
        self._log = log
        self._pause = pause
        self._say = say
        self._notes = Path()
        self._lines: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._received: int | None = None
        self._is_told = threading.Event()

    def run(self) -> int:
        """Run the command; return the exit code of its last start."""
        with tempfile.TemporaryDirectory(prefix="checkpoint-run-") as folder, self._listening():
            self._notes = Path(folder, "stores")
            return self._run()

    def _run(self) -> int:
        n_without_gain, n_before = 0, 0
        while True:
            began = time.monotonic()
            code = self._start()
            took = f"after {time.monotonic() - began:.0f} s"
            n_draws = _recorded(self._notes)
            gained = f"{max(0, n_draws - n_before):,} draws more are recorded"
            n_without_gain = 0 if n_draws > n_before else n_without_gain + 1
            n_before = max(n_draws, n_before)
            ended = f"{_ending(code)} {took}; {gained}."
            if (why := self._why_not_again(code, n_without_gain)) is not None:
                self._tell(f"{ended}{why}")
                return code if code >= 0 else 128 - code
            pause = min(self._pause * 2 ** max(0, n_without_gain - 1), _LONGEST_PAUSE)
            self._tell(f"{ended} It is started again in {pause:g} s.")
            if self._is_told.wait(pause):
                self._tell(f"Not started again: {_name(self._received or 0)} came.")
                return 128 + (self._received or 0)

    def _start(self) -> int:
        """Start the command, and wait for its end; return how it ended, as `Popen` does."""
        environment = {**os.environ, STORES: str(self._notes)}
        # In a session of its own, so that what is sent to a group reaches it once, through us.
        self._child = subprocess.Popen(self._command, env=environment, start_new_session=True)
        self._tell(f"{' '.join(self._command)} is started, as process {self._child.pid}.")
        if self._received is not None:  # it came while the process was made
            self._child.send_signal(self._received)
        return self._child.wait()

    def _why_not_again(self, code: int, n_without_gain: int) -> str | None:
        """Return why the command is not started again, as a sentence; None if it is."""
        if self._received is not None or code in self._final:
            return ""
        if code == -signal.SIGKILL and self._on_oom == "stop":
            return " It is not started again: --on-oom stop."
        if n_without_gain > self._retries:
            return (
                f" It is not started again: nothing was gained in {n_without_gain} starts in a "
                "row. Read what it printed, mend the cause, and run the same command again."
            )
        return None

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        before: dict[int, Any] = {}
        for number in _PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._take)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._is_told.set()
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def _tell(self, line: str) -> None:
        """Say a line, and write it to the log once it is known where that is."""
        self._say(f"checkpoint run: {line}")
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        path = self._log or _beside(self._notes)
        if path is not None:
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as log:
                log.writelines(self._lines)
                self._lines.clear()


def _stores(notes: Path) -> list[str]:
    try:
        return list(dict.fromkeys(notes.read_text(encoding="utf-8").splitlines()))
    except OSError:
        return []


def _beside(notes: Path) -> Path | None:
    """Return the log beside the first store, if that is a file or folder."""
    for store in _stores(notes):
        if "://" not in store:
            path = Path(store)
            return path.with_name(f"{path.name}.log")
    return None


def _recorded(notes: Path) -> int:
    """Return the draws that all stores hold; what cannot be read counts as none."""
    from checkpoint.opening import open as open_run  # only after an end, as it takes a moment

    n_draws = 0
    for store in _stores(notes):
        with contextlib.suppress(CheckpointError, OSError, ImportError):
            n_draws += int(open_run(store).draw_idx.sum())
    return n_draws


def _ending(code: int) -> str:
    if code >= 0:
        return f"It ended with exit code {code}"
    because = " (out of memory, perhaps)" if code == -signal.SIGKILL else ""
    return f"It was killed by {_name(-code)}{because}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
