"""Say how far a run is where its bars are not seen, as in the log of a batch job."""

import time
from collections.abc import Callable, Sequence

from checkpoint.reading.tables import duration, speed

__all__ = ["LogLines"]

_FIRST = 10.0
"""Seconds before the first line; each interval is twice the one before."""

_LONGEST = 300.0
"""Seconds that an interval grows to."""


class LogLines:
    """Writes one plain line at a growing interval: 10 seconds at first, then up to 5 minutes.

    Parameters
    ----------
    name : str
        Name of the store.
    asked : int
        Draws that each chain is to have, warm-up included.
    n_rows : sequence of int
        Draws that each chain has.
    say : callable
        Called with each line.
    now : callable
        Returns seconds of a clock that is never set.
    """

    def __init__(
        self,
        name: str,
        asked: int,
        n_rows: Sequence[int],
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._asked = asked
        self._n_rows = list(n_rows)
        self._say = say
        self._now = now
        self._interval = _FIRST
        self._said = now(), sum(n_rows)

    def move(self, chain: int, n_rows: int) -> None:
        """Update the number of draws of a chain; write a line if it is time."""
        self._n_rows[chain] = n_rows
        before, n_before = self._said
        seconds = self._now() - before
        if seconds < self._interval:
            return
        n = sum(self._n_rows)
        self._said = before + seconds, n
        self._interval = min(2 * self._interval, _LONGEST)
        self._say(self._line(n, (n - n_before) / seconds))

    def _line(self, n: int, draws_per_second: float) -> str:
        n_asked = self._asked * len(self._n_rows)
        left = ""
        if draws_per_second > 0:
            left = f", about {duration((n_asked - n) / draws_per_second)} left"
        n_complete = sum(n_rows >= self._asked for n_rows in self._n_rows)
        return (
            f"{self._name}: {n:,} of {n_asked:,} draws ({100 * n // n_asked} %), {n_complete} of "
            f"{len(self._n_rows)} chains complete; {speed(draws_per_second)} draws/s{left}"
        )
