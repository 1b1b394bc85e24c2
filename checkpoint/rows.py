"""The columns of a row, and the buffer that holds the rows of one chunk.

A row is what one step of one chain leaves. Its columns are the arrays of the format, so that
a chunk of rows, taken column by column, is a chunk of each array.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from checkpoint.arrays import TEXT

__all__ = ["Column", "RowBuffer", "RowSource"]

Values = np.ndarray[Any, Any]


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
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=int))

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
    def from_json(cls, document: Sequence[Any]) -> "Column":
        path, dtype, shape, per_commit = document
        return cls(str(path), str(dtype), tuple(int(n) for n in shape), bool(per_commit))


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
