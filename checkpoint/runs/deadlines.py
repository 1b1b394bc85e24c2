"""When a call of `sample` must have ended, and when it must stop for that."""

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

from checkpoint.errors import ArgumentError, CheckpointWarning, warn_caller

__all__ = ["Deadline", "seconds_of"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*")
_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")

_SLURM = "SLURM_JOB_END_TIME"

_MARGIN = 1.0
"""Seconds kept for the last commit and the end of the session, beside what a draw takes."""

_LOOK_EVERY = 1.0
"""Seconds between two calls of a callable deadline."""


class Deadline:
    """The deadline of one call, and the time that a draw and its commit take.

    Parameters
    ----------
    max_time : float, timedelta, or str, optional
        The time that the call may take.
    deadline : "slurm", datetime, str, or callable, optional
        The moment at which it must have ended; a callable returns the seconds left, or None.
    now, clock : callable
        The time of day in seconds since 1970, and a clock that is never set.

    Attributes
    ----------
    is_set : bool
        Whether there is a deadline at all.
    reached : str
        The deadline that stopped the call, as text; empty if none has.

    Raises
    ------
    ArgumentError
        If one of them cannot be read, or has passed.
    """

    def __init__(
        self,
        max_time: Any = None,
        deadline: Any = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reached = ""
        self._now, self._clock = now, clock
        self._gaps: deque[float] = deque(maxlen=200)
        self._last: dict[int, float] = {}
        self._max_time: tuple[float, str] | None = None
        self._moment: tuple[float, str] | None = None
        self._notice = _Notice(deadline) if callable(deadline) else None
        self._look_again = 0.0
        if max_time is not None:
            self._max_time = clock() + seconds_of(max_time), f"max_time={_shown(max_time)}"
        if deadline is not None and self._notice is None:
            self._moment = _moment(deadline, now())
        self.is_set = max_time is not None or deadline is not None

    def count(self, seconds: float) -> None:
        """Count time that earlier sessions took towards `max_time`."""
        if self._max_time is not None:
            at, text = self._max_time
            self._max_time = at - seconds, text

    def expect(self, seconds: float) -> None:
        """Expect that a draw takes so long, until draws of this call have told."""
        self._gaps.append(seconds)

    def saw(self, chain: int) -> None:
        """Take note that a chain has another draw, or several that were fast.

        What passes between two of these calls is a draw and perhaps its commit, at most.
        """
        now = self._clock()
        if chain in self._last:
            self._gaps.append(now - self._last[chain])
        self._last[chain] = now

    def must_stop(self) -> bool:
        """Return whether another draw and its commit could end too late."""
        if not self.is_set or self.reached:
            return bool(self.reached)
        if (now := self._clock()) < self._look_again:
            return False
        left, text = self._left()
        spare = left - _MARGIN - 1.5 * max(self._gaps, default=0.0)
        if spare <= 0:
            self.reached = text
        self._look_again = now + min(0.05, spare / 2)
        return bool(self.reached)

    def _left(self) -> tuple[float, str]:
        """Return the seconds to the first of the deadlines, and which one it is."""
        found = []
        if self._max_time is not None:
            found.append((self._max_time[0] - self._clock(), self._max_time[1]))
        if self._moment is not None:
            found.append((self._moment[0] - self._now(), self._moment[1]))
        if self._notice is not None and (seconds := self._notice.left(self._clock())) is not None:
            found.append((seconds, "the notice of deadline="))
        return min(found, default=(float("inf"), ""))

    def __enter__(self) -> "Deadline":
        if self._notice is not None:
            self._notice.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._notice is not None:
            self._notice.stop()


class _Notice:
    """Calls a function of the user once a second in a thread, where it holds up no draw."""

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look = look
        self._stop_at: float | None = None
        self._is_over = threading.Event()
        self._error: Exception | None = None

    def start(self) -> None:
        threading.Thread(target=self._watch, name="checkpoint-deadline", daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()

    def left(self, now: float) -> float | None:
        if (error := self._error) is not None:
            self._error = None
            warn_caller(
                f"deadline={_shown(self._look)} failed with {type(error).__name__}: {error}. "
                "Sampling continues, and it is called again.",
                CheckpointWarning,
            )
        return None if self._stop_at is None else self._stop_at - now

    def _watch(self) -> None:
        has_failed = False
        while True:
            try:
                seconds = self._look()
                self._stop_at = None if seconds is None else time.monotonic() + float(seconds)
            except Exception as error:  # whatever the user's function raises; told once
                if not has_failed:
                    self._error, has_failed = error, True
            if self._is_over.wait(_LOOK_EVERY):
                return


def seconds_of(max_time: Any) -> float:
    """Return a span of time in seconds.

    Raises
    ------
    ArgumentError
        If it cannot be read, or is not positive.

    Examples
    --------
    >>> seconds_of("2h30m"), seconds_of(90), seconds_of("1d")
    (9000.0, 90.0, 86400.0)
    """
    if isinstance(max_time, timedelta):
        seconds = max_time.total_seconds()
    elif isinstance(max_time, Real) and not isinstance(max_time, bool):
        try:
            seconds = float(max_time)
        except OverflowError:
            seconds = float("inf")
    else:
        parts = _PART.findall(max_time) if isinstance(max_time, str) else []
        if not parts or "".join(_PART.split(max_time)[::3]).strip():
            raise ArgumentError(
                f"max_time={max_time!r}: expected seconds, a timedelta, or text such as "
                '"2h30m", "45min" or "1d".'
            )
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < seconds < float("inf"):
        raise ArgumentError(f"max_time={max_time!r}: expected a time of more than 0 seconds.")
    return seconds


def _moment(deadline: Any, now: float) -> tuple[float, str]:
    """Return a moment in seconds since 1970, and its text.

    Raises
    ------
    ArgumentError
        If it cannot be read, or has passed.
    """
    text = f"deadline={_shown(deadline)}"
    if deadline == "slurm":
        value = os.environ.get(_SLURM, "")
        if not (value.isascii() and value.isdecimal()):
            raise ArgumentError(
                f'deadline="slurm": {_SLURM} is not set to a time, so this is no job of Slurm, or '
                "of an older one. Pass the end as text, as `squeue -h -j $SLURM_JOB_ID -o %e` "
                "prints it, or max_time."
            )
        at = float(value)
    elif isinstance(deadline, datetime):
        at = _seconds(text, deadline)
    elif isinstance(deadline, str) and (found := _TIME_OF_DAY.fullmatch(deadline.strip())):
        at = _next(text, tuple(int(part or 0) for part in found.groups()), now)
    else:
        try:
            moment = datetime.fromisoformat(deadline)
        except (TypeError, ValueError):
            raise ArgumentError(
                f'{text}: expected "slurm", a datetime, a time of day such as "06:30", a date and '
                'time such as "2026-11-28T06:30", or a function that returns the seconds left.'
            ) from None
        at = _seconds(text, moment)
    if at <= now:
        when = datetime.fromtimestamp(at).isoformat(" ", "seconds")
        raise ArgumentError(f"{text}: {when} has passed. Nothing was drawn. Pass a later one.")
    return at, text


def _seconds(text: str, moment: datetime) -> float:
    """Return a moment, local if it has no zone, in seconds since 1970."""
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):  # of the first years, in local time
        raise ArgumentError(f"{text} has passed. Nothing was drawn. Pass a later one.") from None


def _next(text: str, parts: tuple[int, ...], now: float) -> float:
    """Return the next moment at which a clock on the wall shows a time of day."""
    today = datetime.fromtimestamp(now)
    try:
        hour, minute, second = parts
        at = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
    except ValueError:
        raise ArgumentError(f"{text}: there is no such time of day.") from None
    if at <= today:
        at += timedelta(days=1)
    return at.timestamp()


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value)
