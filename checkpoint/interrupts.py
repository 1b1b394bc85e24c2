"""Ctrl-C and SIGTERM as a flag that is read between draws."""

import os
import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


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
