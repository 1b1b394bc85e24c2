"""Ctrl-C and SIGTERM as a flag that is read between draws."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupts", "postponed"]


class Interrupts:
    """While entered, the first SIGINT or SIGTERM asks to stop; a second SIGINT interrupts.

    Outside the main thread no signal arrives, and nothing is changed.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.received is not None

    def stop(self) -> None:
        """Ask to stop, as a signal would."""
        if self.received is None:
            self.received = signal.SIGINT

    def pass_on(self) -> None:
        """Let a SIGTERM that was taken have its usual effect, now that all is safe."""
        if self.received == signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let a Ctrl-C come when the block is left: what is done in it is done whole.

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
