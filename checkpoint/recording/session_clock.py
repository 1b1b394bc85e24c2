"""The time spent sampling a run, which each commit records."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import clocks
from checkpoint.recording.record import ChainRecord
from checkpoint.stores import Store

__all__ = ["SessionClock", "seconds_at", "seconds_spent"]


@dataclass(frozen=True)
class SessionClock:
    """Tells the seconds spent sampling a run, over all its sessions.

    Worker processes of this machine may use a copy, as they share the clock that it reads.

    Attributes
    ----------
    spent : float
        Seconds that earlier sessions took.
    began : float
        When this session began, on the clock of `time.monotonic`.
    """

    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Return the seconds spent until now."""
        return self.spent + time.monotonic() - self.began


def seconds_at(record: ChainRecord, draw_idx: int) -> float | None:
    """Return the seconds spent when a row was committed, or None if it was not recorded.

    Runs created before the clock existed, and imported rows, have none.
    """
    has_clock = any(column.path == layout.ELAPSED for column in record.manifest.columns)
    if not has_clock or not 0 <= draw_idx < record.n_rows:
        return None
    try:
        seconds = float(record.value(layout.ELAPSED, draw_idx))
    except DamagedStoreError:  # `verify` reports it; no draw is affected
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def seconds_spent(store: Store, manifest: Manifest, records: Sequence[ChainRecord]) -> float:
    """Return the seconds spent sampling, over all sessions, including killed ones."""
    found = [seconds_at(record, record.n_rows - 1) for record in records]
    ended = clocks.read_sampling_time(store, manifest)
    return max([ended, *(seconds for seconds in found if seconds is not None)])
