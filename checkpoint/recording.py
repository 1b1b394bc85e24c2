"""From a draw to a row in memory: values, stats, and the state of every step method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint import layout, plain
from checkpoint.adapters import Adapter
from checkpoint.manifest import Manifest
from checkpoint.rows import RowBuffer, Values

__all__ = ["Recorder", "RowPlan", "point_path", "row_plan", "stat_path", "variable_path"]

Stats = Sequence[Mapping[str, Any]]

# Step method, names, what stands for a missing one, columns, values taken since the last commit.
_StatsOfStep = tuple[int, list[str], list[int], list[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class RowPlan:
    """Which value of a draw goes to which column.

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

    Recording is on the path of every draw. What may change later is copied at once; the rest
    is kept as it is and put into columns when the rows are settled, many at a time.

    Parameters
    ----------
    plan : RowPlan
    compute : callable
        From the values of the value variables to the recorded variables.
    adapters : sequence of Adapter
        One for each of `steps`.
    steps : sequence of step methods
    buffer : RowBuffer
    """

    def __init__(
        self,
        plan: RowPlan,
        compute: Callable[..., Sequence[Any]],
        adapters: Sequence[Adapter],
        steps: Sequence[Any],
        buffer: RowBuffer,
    ) -> None:
        self._plan = plan
        self._compute = compute
        self._adapters = adapters
        self._steps = steps
        self.buffer = buffer
        self._n_settled = buffer.n_rows
        by_step: dict[int, list[tuple[str, str]]] = {}
        for step_idx, name, path in plan.stats:
            by_step.setdefault(step_idx, []).append((name, path))
        # Stats become tuples at once: dicts that wait for a commit would burden the collector.
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
        """Point at the arrays of the buffer, which change with its capacity."""
        data = self.buffer.data
        self._computed = [data[path] for path in self._plan.computed]
        self._points = [(data[path], name) for name, path in self._plan.points]
        for adapter, step in zip(self._adapters, self._steps, strict=True):
            adapter.attach(step, data)

    def record(self, point: Mapping[str, Any], stats: Stats) -> None:
        """Record what a draw left."""
        buffer = self.buffer
        row = buffer.n_rows
        values = self._compute(*[point[name] for name in self._plan.value_names])
        for target, value in zip(self._computed, values, strict=True):
            target[row] = value
        for target, name in self._points:
            target[row] = point[name]
        for step_idx, names, missing, _, taken in self._stats:
            taken.append(tuple(map(stats[step_idx].get, names, missing)))
        for adapter in self._adapters:
            adapter.take(row)
        buffer.n_rows = row + 1

    def settle(self) -> None:
        """Put all that was recorded into the columns of the buffer."""
        start, stop = self._n_settled, self.buffer.n_rows
        if start == stop:
            return
        for _, _, _, paths, taken in self._stats:
            # A draw that failed while it was recorded has left more behind than there are rows.
            rows = taken[: stop - start]
            for path, values in zip(paths, zip(*rows, strict=True), strict=True):
                target = self.buffer.data[path]
                target[start:stop] = _texts(values) if target.dtype == object else values
            taken.clear()
        for adapter in self._adapters:
            adapter.settle(start, stop)
        self._n_settled = stop

    def start_chunk(self, capacity: int) -> None:
        """Go on with an empty buffer."""
        self.buffer.start_chunk(capacity)
        self._n_settled = 0
        self.attach()


def _texts(values: Sequence[Any]) -> Values:
    texts = np.empty(len(values), dtype=object)
    texts[:] = ["" if value is None else plain.dumps(value) for value in values]
    return texts


def row_plan(manifest: Manifest, stats: Sequence[tuple[int, str, str]]) -> RowPlan:
    """Return the plan of a run's rows; `stats` as from `results.stats_columns`."""
    computed = tuple(variable_path(name) for name in manifest.variables)
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


def variable_path(name: str) -> str:
    """Return the column of a recorded variable."""
    return f"{layout.UNCONSTRAINED if name.endswith('__') else layout.POSTERIOR}/{name}"


def point_path(name: str, recorded: Sequence[str]) -> str:
    """Return the column that holds a value variable."""
    if name in recorded or name.endswith("__"):
        return variable_path(name)
    return f"{layout.STATE}/{layout.POINT}/{name}"


def stat_path(step_idx: int, name: str) -> str:
    """Return the column of a stat."""
    return f"{layout.SAMPLE_STATS}/sampler_{step_idx}__{name}"
