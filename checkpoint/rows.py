"""The columns of a row, and the buffer that holds the rows of one chunk.

A row is what one step of one chain leaves. Its columns are the arrays of the format, so that
a chunk of rows, taken column by column, is a chunk of each array.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from checkpoint import layout
from checkpoint.arrays import TEXT

__all__ = ["Column", "RowBuffer", "RowSource", "is_number"]

Values = np.ndarray[Any, Any]

_LONGEST_DTYPE = 20
"""Letters in the name of a dtype; numpy parses longer ones, which are of no number."""

_MOST_DIMS = 60
"""Dimensions of a value; those of chain and draw come before it, and numpy has 64."""


@dataclass(frozen=True)
class Column:
    """One value of a row.

    Attributes
    ----------
    path : str
        Path of its array after warm-up, from the root of the store.
    dtype : str
        numpy dtype string, or ``"text"``.
    shape : tuple of int
        Shape of one value.
    per_commit : bool
        Whether only the last row before each commit holds it. For what is too large, or too
        slow to take, for every draw.
    """

    path: str
    dtype: str
    shape: tuple[int, ...] = ()
    per_commit: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of one value; a guess for text."""
        if self.dtype == TEXT:
            return 16
        return np.dtype(self.dtype).itemsize * prod(self.shape)

    def empty(self, n_rows: int) -> Values:
        """Return uninitialised values (empty texts) for `n_rows` rows."""
        if self.dtype == TEXT:
            values = np.empty((n_rows, *self.shape), dtype=object)
            values.fill("")
            return values
        return np.empty((n_rows, *self.shape), dtype=self.dtype)

    def to_json(self) -> list[Any]:
        return [self.path, self.dtype, list(self.shape), self.per_commit]

    @classmethod
    def from_json(cls, document: Any) -> "Column":
        """Return the column that `to_json` described.

        Raises
        ------
        ValueError
            If it is none: another form, a path out of the store, another kind of dtype.
        """
        if not isinstance(document, list) or len(document) != 4:
            raise ValueError(f"{document!r:.200} is no column")
        path, dtype, shape, per_commit = document
        if not layout.is_key(path):
            raise ValueError(f"the path {path!r:.200} of a column leads out of the store")
        if type(per_commit) is not bool or not (dtype == TEXT or is_number(dtype)):
            raise ValueError(f"the column {path} has the dtype {dtype!r:.200}, {per_commit!r:.20}")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the column {path} has the shape {shape!r:.200}")
        column = cls(path, dtype, tuple(shape), per_commit)
        if len(shape) > _MOST_DIMS or column.nbytes > sys.maxsize:
            raise ValueError(f"the column {path} has the shape {shape!r:.200}, of no array")
        return column


def is_number(dtype: object) -> bool:
    """Return whether a text names a dtype of plain numbers or truth values."""
    if not isinstance(dtype, str) or len(dtype) > _LONGEST_DTYPE:
        return False
    try:
        return np.dtype(dtype).kind in "biufc"
    except (TypeError, ValueError, SyntaxError):
        return False


class RowSource(Protocol):
    """Where recorded rows are read from: a buffer, a decoded log entry, a whole chain.

    Rows are counted from the chain's first draw, warm-up included.
    """

    def value(self, path: str, draw_idx: int) -> Any:
        """Return a column's value at one row."""

    def values(self, path: str, start: int, stop: int) -> Values:
        """Return a column's values at several rows, shape ``(stop - start, *shape)``."""


class RowBuffer:
    """The rows of one chunk of one chain, column by column.

    Parameters
    ----------
    columns : sequence of Column
    capacity : int
        Rows in the chunk.
    first_draw_idx : int
        The chain's draw that row 0 holds, warm-up included.
    """

    def __init__(self, columns: Sequence[Column], capacity: int, first_draw_idx: int) -> None:
        self.columns = tuple(columns)
        self.capacity = capacity
        self.first_draw_idx = first_draw_idx
        self.n_rows = 0
        self.data: dict[str, Values] = {
            column.path: column.empty(1 if column.per_commit else capacity) for column in columns
        }

    @property
    def is_full(self) -> bool:
        return self.n_rows == self.capacity

    @property
    def stop_draw_idx(self) -> int:
        """One past the last row's draw."""
        return self.first_draw_idx + self.n_rows

    def slices(self, start: int, stop: int) -> dict[str, Values]:
        """Return views of the rows from `start` to `stop`, counted within the buffer."""
        return {
            column.path: self.data[column.path][
                slice(0, 1) if column.per_commit else slice(start, stop)
            ]
            for column in self.columns
        }

    def load(self, rows: Mapping[str, Values], n_rows: int) -> None:
        """Fill the empty buffer with rows recorded before."""
        for column in self.columns:
            values = rows[column.path]
            self.data[column.path][: len(values)] = values
        self.n_rows = n_rows

    def start_chunk(self, capacity: int) -> None:
        """Empty the buffer for the next chunk."""
        self.first_draw_idx = self.stop_draw_idx
        self.n_rows = 0
        if capacity != self.capacity:
            self.capacity = capacity
            for column in self.columns:
                if not column.per_commit:
                    self.data[column.path] = column.empty(capacity)

    def value(self, path: str, draw_idx: int) -> Any:
        values = self.data[path]
        return values[0 if len(values) == 1 else draw_idx - self.first_draw_idx]

    def values(self, path: str, start: int, stop: int) -> Values:
        return self.data[path][start - self.first_draw_idx : stop - self.first_draw_idx]


def row_nbytes(columns: Iterable[Column]) -> int:
    """Return the bytes of one row."""
    return sum(column.nbytes for column in columns)
