"""Ctrl-C, and signals that announce the end of a process, as a flag that is read between draws."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from checkpoint.errors import ArgumentError

__all__ = [
    "PREEMPT_SIGNALS",
    "Interrupts",
    "exit_code_of",
    "let_through",
    "postponed",
    "signal_numbers",
    "withheld",
]

PREEMPT_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""Signals by which schedulers and machines announce that a process is about to be ended."""


_LAST_WORDS = 2.0
"""Seconds that the last words of a process may take."""


_SAME = 1.0
"""Seconds within which a preemption signal that comes twice is the same one."""


class Interrupts:
    """Inside the block, the first signal asks to stop; a second one interrupts at once.

    The previous handlers are restored on leaving; a signal that the process ignores stays
    ignored. Outside the main thread no signal arrives, and nothing is changed.

    Parameters
    ----------
    signals : iterable of int
        Signals that preempt. SIGINT is always handled.
    grace : float, optional
        Seconds after such a signal at which the process ends even in the middle of a draw.
    exit_code : int, optional
        Exit code of the process then. The default is 128 plus the signal's number.

    Attributes
    ----------
    received : int or None
        The signal that asked to stop.
    last_words : callable or None
        Called, in a thread of its own, before the process ends in the middle of a draw.
    """

    def __init__(
        self,
        signals: Iterable[int] = PREEMPT_SIGNALS,
        grace: float | None = None,
        exit_code: int | None = None,
    ) -> None:
        self.received: int | None = None
        self.last_words: Callable[[], None] | None = None
        self._signals = tuple(signals)
        self._grace = grace
        self._exit_code = exit_code
        self._previous: dict[int, Any] = {}
        self._timer: threading.Timer | None = None
        self._received_at = 0.0

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGINT, *self._signals}:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            # None stands for a handler that Python did not set, and cannot set.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def taken(self) -> tuple[int, ...]:
        """The signals that preempt, as far as this process takes them."""
        return tuple(number for number in self._signals if number in self._previous)

    @property
    def is_preempted(self) -> bool:
        """Whether a signal arrived that announces the end of the process."""
        return self.received is not None and self.received in self._signals

    def should_stop(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.received is not None

    def stop(self) -> None:
        """Ask to stop, as a signal would."""
        if self.received is None:
            self.received = signal.SIGINT

    def take_from_worker(self, number: int) -> None:
        """Take a signal that a worker received."""
        if self.received is None:
            self._begin(number)

    def pass_on(self) -> None:
        """Call the previous handler of the signal that preempted, once all draws are durable."""
        handler = self._previous.get(self.received or 0)
        if self.is_preempted and callable(handler) and self.received != signal.SIGINT:
            handler(self.received, None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self._begin(number)
        elif self._is_same(number):
            return
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(exit_code_of(number, self._exit_code))

    def _is_same(self, number: int) -> bool:
        """Return whether a signal is the one that came just now, by another way.

        It may be sent to all processes of a job, and be passed on by a worker or a parent too.
        """
        is_soon = time.monotonic() - self._received_at < _SAME
        return number == self.received and number in self._signals and is_soon

    def _begin(self, number: int) -> None:
        self.received, self._received_at = number, time.monotonic()
        if self.is_preempted and self._grace is not None:
            self._timer = threading.Timer(self._grace, self._end_now)
            self._timer.daemon = True
            self._timer.start()

    def _end_now(self) -> None:
        number = self.received or 0
        if self.last_words is not None:
            # It may have to wait for what the draw holds, so the process does not wait for it.
            words = threading.Thread(target=self.last_words, daemon=True)
            words.start()
            words.join(_LAST_WORDS)
        with contextlib.suppress(Exception):
            sys.stderr.write(
                f"checkpoint: {signal.Signals(number).name} arrived {self._grace:g} s ago and the "
                "current draw has not ended, so this process ends now. All committed draws are "
                "recorded. Run the same command again to continue.\n"
            )
            sys.stderr.flush()
        os._exit(exit_code_of(number, self._exit_code))


def exit_code_of(number: int, given: int | None) -> int:
    """Return the exit code of a process that a signal preempted."""
    return 128 + number if given is None else given


def signal_numbers(given: Iterable[int | str]) -> tuple[int, ...]:
    """Return signals by number; a name may lack its SIG.

    Raises
    ------
    ArgumentError
        If there is no such signal, or no program can take it.

    Examples
    --------
    >>> signal_numbers(["SIGTERM", "int", 15])
    (15, 2, 15)
    """
    if isinstance(given, str | int):
        given = (given,)
    return tuple(_number(item) for item in given)


def _number(item: int | str) -> int:
    text = item.upper() if isinstance(item, str) else ""
    names = {"SIG" + text.removeprefix("SIG")} if text else set()
    found = [s for s in signal.Signals if s.name in names or (not text and s == item)]
    if not found or found[0].name in ("SIGKILL", "SIGSTOP"):
        known = ", ".join(s.name for s in signal.Signals if s.name not in ("SIGKILL", "SIGSTOP"))
        why = "no program can take it" if found else "there is no such signal"
        raise ArgumentError(f"preempt_signals: {item!r}: {why}. Expected some of {known}.")
    return int(found[0])


@contextlib.contextmanager
def withheld(numbers: Iterable[int]) -> Iterator[None]:
    """Let signals wait until the block is left, and in processes that it starts `let_through`.

    A process that has not set its own handlers yet would die of them, or run those of its parent.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through(numbers: Iterable[int]) -> None:
    """Take the signals that were `withheld` when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Delay Ctrl-C until the block is left, so that the block is never cut short.

    Outside the main thread no signal arrives, and nothing is changed.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    received: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if received:
            usual(signal.SIGINT, received[0])
