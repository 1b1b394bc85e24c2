"""Convert imported draws to rows for the chunks of a run.

The state of the sampler is known only after the last row of each chain. The rows before that hold
fill values in its columns; `Manifest.n_imported` counts them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint._pymc.steps import flatten
from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.describing import make_adapter
from checkpoint.adapters.growing import GrowingField
from checkpoint.errors import DifferentRunError
from checkpoint.format import plain
from checkpoint.format.arrays import TEXT
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Column, Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.filling import Block
from checkpoint.stores import Store

__all__ = ["ChainHistory", "blocks_of", "n_without_state"]


@dataclass(frozen=True)
class ChainHistory:
    """The imported draws of one chain.

    Attributes
    ----------
    n_rows : int
        Draws, warm-up included.
    draws : mapping of str to ndarray
        Recorded variables and value variables by name, ``(n_rows, *shape)``.
    stats : mapping of (int, str) to ndarray
        Stats by step method and name, ``(n_rows,)``; those that were recorded.
    step : step method or None
        In its state after the last row; None if there is no row.
    """

    n_rows: int
    draws: Mapping[str, Values]
    stats: Mapping[tuple[int, str], Values]
    step: Any


def n_without_state(histories: Sequence[ChainHistory]) -> tuple[int, ...]:
    """Return for each chain how many rows at its start have no state of the sampler."""
    return tuple(max(0, history.n_rows - 1) for history in histories)


def blocks_of(
    store: Store,
    manifest: Manifest,
    schemas: Sequence[AdapterSchema],
    chain: int,
    history: ChainHistory,
) -> Iterator[Block]:
    """Return the rows of a chain, as `fill` takes them.

    Raises
    ------
    DifferentRunError
        If values do not fit the columns of the run.
    """
    if not history.n_rows:
        return
    columns = _columns_of(store, manifest, schemas, chain, history)
    for first, stop in manifest.grid.ranges(history.n_rows):
        yield stop - first, {path: values[first:stop] for path, values in columns.items()}


def _columns_of(
    store: Store,
    manifest: Manifest,
    schemas: Sequence[AdapterSchema],
    chain: int,
    history: ChainHistory,
) -> dict[str, Values]:
    """Return all columns of a chain, ``(n_rows, *shape)``."""
    columns = {column.path: column for column in manifest.columns}
    recorded = {path: history.draws[name] for name, path in manifest.variable_paths.items()}
    recorded |= {path: history.draws[name] for name, path in manifest.point_paths.items()}
    recorded |= {stat_path(i, name): values for (i, name), values in history.stats.items()}
    found = {
        path: _fitting(store, chain, columns[path], values)
        for path, values in recorded.items()
        if path in columns
    }
    for path, column in columns.items():
        found.setdefault(path, _filled(column, history.n_rows))
    _put_state(found, manifest, schemas, history)
    return found


def _put_state(
    columns: dict[str, Values],
    manifest: Manifest,
    schemas: Sequence[AdapterSchema],
    history: ChainHistory,
) -> None:
    """Write the state after the last row, and all items of growing lists, into the columns."""
    for schema, method in zip(schemas, flatten(history.step), strict=True):
        for field in schema.fields:
            if isinstance(field, GrowingField):
                items = list(field.get(method))
                if items:
                    _, last = field.columns
                    schema.views(columns)[schema.prefix + last.path][-len(items) :] = items
        adapter = make_adapter(schema)
        buffer = RowBuffer(manifest.columns, 1, history.n_rows - 1)
        adapter.attach(method, buffer.data)
        adapter.take(0)
        adapter.settle(0, 1)
        for column in adapter.schema.columns:
            columns[column.path][-1] = buffer.data[column.path][0]


def _fitting(store: Store, chain: int, column: Column, values: Values) -> Values:
    """Return values as a column holds them.

    Raises
    ------
    DifferentRunError
        If they have another shape, or a value would change.
    """
    if column.dtype == TEXT:
        texts = column.empty(len(values))
        texts[:] = [_text(value) for value in values]
        return texts
    if values.shape[1:] == column.shape:
        with np.errstate(invalid="ignore"):
            fitting = values.astype(column.dtype)
        equal_nan = fitting.dtype.kind in "fc" and values.dtype.kind in "fc"
        if np.array_equal(fitting, values, equal_nan=equal_nan):
            return fitting
    found = f"{column.path}: {values.dtype} {values.shape[1:]}, expected {column.dtype} "
    raise DifferentRunError(
        f"{store.name}: the values of chain {chain} do not fit the model: {found}{column.shape}. "
        "No run was made. Pass the model, and the step methods, that they were drawn with.",
        [found + str(column.shape)],
    )


def _text(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value):
        return ""
    try:
        return plain.dumps(value)
    except TypeError:
        return plain.dumps(str(value))


def _filled(column: Column, n_rows: int) -> Values:
    """Return rows of fill values."""
    values = column.empty(n_rows)
    if column.dtype != TEXT:
        values[...] = np.nan if np.dtype(column.dtype).kind in "fc" else 0
    return values
