"""Record draws as rows in memory: values, stats, and the state of every step method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.adapters.sampler import Sampler, Stats
from checkpoint.format import layout, plain
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.session_clock import SessionClock

__all__ = ["Recorder", "RowPlan", "row_plan", "stats_of_row"]

# Index of the step method, names, values if missing, columns, and stats that are not settled.
_StatsOfStep = tuple[int, list[str], list[int], list[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class RowPlan:
    """The column for each value of a draw.

    Attributes
    ----------
    value_names : tuple of str
        Value variables, in the order `compute` takes them.
    computed : tuple of str
        Columns of what `compute` returns, in its order.
    points : tuple of (str, str)
        Value variables that are not computed, with their columns.
    stats : tuple of (int, str, str)
        Stats as (step method, name, column).
    """

    value_names: tuple[str, ...]
    computed: tuple[str, ...]
    points: tuple[tuple[str, str], ...]
    stats: tuple[tuple[int, str, str], ...]


class Recorder:
    """Records the draws of one chain into a buffer.

    `record` runs at every draw, so it must be fast. It copies only what may change later; the rest
    is kept as it is, and `settle` puts it into columns, many rows at a time.

    Parameters
    ----------
    plan : RowPlan
    compute : callable
        Computes the recorded variables from the values of the value variables.
    sampler : Sampler
        The sampler whose state is captured.
    buffer : RowBuffer
    clock : SessionClock, optional
        Gives the time of each row, if the run records it.
    """

    def __init__(
        self,
        plan: RowPlan,
        compute: Callable[..., Sequence[Any]],
        sampler: Sampler,
        buffer: RowBuffer,
        clock: SessionClock | None = None,
    ) -> None:
        self._plan = plan
        self._compute = compute
        self._sampler = sampler
        self._clock = clock
        self.buffer = buffer
        self._n_settled = buffer.n_rows
        by_step: dict[int, list[tuple[str, str]]] = {}
        for step_idx, name, path in plan.stats:
            by_step.setdefault(step_idx, []).append((name, path))
        # Stats become tuples at once: many dicts in memory would slow the garbage collector.
        self._stats: list[_StatsOfStep] = [
            (
                step_idx,
                [name for name, _ in items],
                [0] * len(items),
                [path for _, path in items],
                [],
            )
            for step_idx, items in by_step.items()
        ]
        self.attach()

    def attach(self) -> None:
        """Refer to the arrays of the buffer, which change with its capacity."""
        data = self.buffer.data
        self._computed = [data[path] for path in self._plan.computed]
        self._points = [(data[path], name) for name, path in self._plan.points]
        self._sampler.attach(data)

    def record(self, point: Mapping[str, Any], stats: Stats) -> None:
        """Record point and stats of a draw, and the state of the step methods after it."""
        buffer = self.buffer
        row = buffer.n_rows
        values = self._compute(*[point[name] for name in self._plan.value_names])
        for target, value in zip(self._computed, values, strict=True):
            target[row] = value
        for target, name in self._points:
            target[row] = point[name]
        for step_idx, names, missing, _, taken in self._stats:
            taken.append(tuple(map(stats[step_idx].get, names, missing)))
        self._sampler.capture(row)
        buffer.n_rows = row + 1

    def record_block(self, rows: Mapping[str, Values], start: int, stop: int) -> None:
        """Record the rows from `start` to `stop` of a block, state included."""
        self.settle()
        buffer = self.buffer
        end = buffer.n_rows + stop - start
        for column in buffer.columns:
            if column.path != layout.ELAPSED:
                buffer.data[column.path][buffer.n_rows : end] = rows[column.path][start:stop]
        self._put_time(buffer.n_rows, end)
        buffer.n_rows = self._n_settled = end

    def settle(self) -> None:
        """Put all recorded rows into the columns of the buffer."""
        start, stop = self._n_settled, self.buffer.n_rows
        if start == stop:
            return
        for _, _, _, paths, taken in self._stats:
            # A draw that failed while it was recorded may have left stats without a row.
            rows = taken[: stop - start]
            for path, values in zip(paths, zip(*rows, strict=True), strict=True):
                _put_stats(self.buffer.data[path][start:stop], values)
            taken.clear()
        self._sampler.settle(start, stop)
        self._put_time(start, stop)
        self._n_settled = stop

    def _put_time(self, start: int, stop: int) -> None:
        """Put the time spent into rows; runs created before the clock existed lack the column."""
        if (elapsed := self.buffer.data.get(layout.ELAPSED)) is not None:
            elapsed[start:stop] = np.nan if self._clock is None else self._clock.seconds()

    def start_chunk(self, capacity: int) -> None:
        """Empty the buffer for the next chunk."""
        self.buffer.start_chunk(capacity)
        self._n_settled = 0
        self.attach()


def _put_stats(target: Values, values: Sequence[Any]) -> None:
    if target.dtype == object:
        target[:] = _texts(values)
        return
    try:
        target[:] = values
    except ValueError:  # vectors of one number: PyMC's trace takes them, 5.28.0 has a step with one
        target[:] = [np.reshape(value, target.shape[1:]) for value in values]


def _texts(values: Sequence[Any]) -> Values:
    texts = np.empty(len(values), dtype=object)
    texts[:] = ["" if value is None else plain.dumps(value) for value in values]
    return texts


def stats_of_row(plan: RowPlan, rows: Mapping[str, Values], row: int) -> Stats:
    """Return the stats of one row as step methods return them, without objects."""
    stats: list[dict[str, Any]] = [{} for _ in {step_idx for step_idx, _, _ in plan.stats}]
    for step_idx, name, path in plan.stats:
        if rows[path].dtype != object:
            stats[step_idx][name] = rows[path][row]
    return stats


def row_plan(manifest: Manifest, stats: Sequence[tuple[int, str, str]]) -> RowPlan:
    """Return the plan of a run's rows; `stats` as from `results.stats_columns`."""
    computed = tuple(manifest.variable_paths.values())
    recorded = set(manifest.variables)
    points = tuple(
        (name, path) for name, path in manifest.point_paths.items() if name not in recorded
    )
    return RowPlan(
        value_names=tuple(manifest.point_paths),
        computed=computed,
        points=points,
        stats=tuple((i, name, stat_path(i, name)) for i, name, _ in stats),
    )
