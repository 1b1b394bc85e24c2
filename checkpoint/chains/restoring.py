"""Repeat draws from a recorded state, and compare them with the recorded draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint.adapters.sampler import BlockSampler, Point, Sampler
from checkpoint.chains.task import ChainTask
from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import RowSource, Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recorder import Recorder

__all__ = [
    "CLOCK_STATS",
    "RowsThen",
    "check_has_state",
    "is_clock",
    "make_row",
    "point_at",
    "ready",
    "repeat",
    "step_once",
    "unequal_columns",
]


def check_has_state(manifest: Manifest, record: ChainRecord, draw_idx: int) -> None:
    """Check that a chain can be continued from a recorded draw.

    Raises
    ------
    DamagedStoreError
        If the draw was imported without the state after it: the last imported draw is lost.
    """
    first = manifest.first_state(record.chain)
    if draw_idx < first:
        raise DamagedStoreError(
            f"{record.store.name}: chain {record.chain} was imported up to draw {first}, with the "
            f"state of the sampler after that draw only, and only {record.n_rows} of its draws can "
            "be read. It cannot continue from there. Nothing was changed. Restore the store from a "
            "copy, or import again into another path."
        )


def point_at(manifest: Manifest, rows: RowSource, draw_idx: int) -> dict[str, Any]:
    """Return the point after a recorded draw, by value variable."""
    return {name: rows.value(path, draw_idx).copy() for name, path in manifest.point_paths.items()}


CLOCK_STATS = frozenset({"perf_counter_diff", "process_time_diff", "perf_counter_start", "time"})
"""Stats that hold times; the only ones that differ between equal runs."""


def is_clock(path: str) -> bool:
    """Return whether a column holds times, which differ between equal runs."""
    return path == layout.ELAPSED or path.rsplit("__", 1)[-1] in CLOCK_STATS


def ready(task: ChainTask, rows: RowSource | None, draw_idx: int) -> tuple[Sampler, Point]:
    """Return a fresh sampler and the point, ready for a draw of a chain.

    For draw 0 they are those of the start; otherwise they are restored from the row before, in
    `rows`.
    Not of a population, whose chains look at each other.
    """
    sampler = task.method.sampler(task.rng)
    if rows is None or draw_idx == 0:
        sampler.start()
        return sampler, dict(task.start)
    sampler.restore(rows, draw_idx - 1)
    return sampler, point_at(task.manifest, rows, draw_idx - 1)


def repeat(task: ChainTask, rows: RowSource, draw_idx: int) -> dict[str, Values]:
    """Make a draw with a fresh sampler, restored from the row before; return its row.

    Not of a population, whose chains look at each other.
    """
    sampler, point = ready(task, rows, draw_idx)
    return step_once(task, sampler, point, draw_idx)


def step_once(task: ChainTask, sampler: Sampler, point: Point, draw_idx: int) -> dict[str, Values]:
    """Make a draw with a sampler that is ready for it; return its row."""
    _, buffer = make_row(task, sampler, point, draw_idx)
    return buffer.slices(0, 1)


def make_row(
    task: ChainTask, sampler: Sampler, point: Point, draw_idx: int
) -> tuple[Point, RowBuffer]:
    """Make a draw with a sampler that is ready for it; return the point and its row."""
    if draw_idx == task.manifest.tune:
        sampler.stop_tuning()
    buffer = RowBuffer(task.manifest.columns, 1, draw_idx)
    if isinstance(sampler, BlockSampler):
        buffer.load(sampler.step_block(point, 1), 1)
        return point_at(task.manifest, buffer, draw_idx), buffer
    recorder = Recorder(task.plan, task.compute, sampler, buffer)
    point, stats = sampler.step(point)
    recorder.record(point, stats)
    recorder.settle()
    return point, buffer


class RowsThen:
    """A `RowSource` of recorded rows followed by one row in memory.

    A list that grows is read from more rows than its last.

    Parameters
    ----------
    before : RowSource or None
        None if there are no rows before.
    last : RowBuffer
        One row.
    """

    def __init__(self, before: RowSource | None, last: RowBuffer) -> None:
        self._before = before
        self._last = last

    def value(self, path: str, draw_idx: int) -> Any:
        if self._before is None or draw_idx >= self._last.first_draw_idx:
            return self._last.value(path, draw_idx)
        return self._before.value(path, draw_idx)

    def values(self, path: str, start: int, stop: int) -> Values:
        at = self._last.first_draw_idx
        if self._before is None or start >= at:
            return self._last.values(path, start, stop)
        before = self._before.values(path, start, min(stop, at))
        return np.concatenate([before, self._last.values(path, at, max(stop, at))])


def unequal_columns(made: Mapping[str, Values], repeated: Mapping[str, Values]) -> list[str]:
    """Return the columns in which two rows differ, except clocks and pickles."""
    return [
        path
        for path in made
        if not is_clock(path)
        and not path.endswith("/pickle")
        and not _same(made[path], repeated[path])
    ]


def _same(a: Values, b: Values) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
