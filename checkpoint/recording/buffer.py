"""Rows in memory, column by column."""

from collections.abc import Mapping, Sequence
from typing import Any

from checkpoint.format.rows import Column, Values

__all__ = ["RowBuffer"]


class RowBuffer:
    """The rows of one chunk of one chain, column by column.

    Parameters
    ----------
    columns : sequence of Column
    capacity : int
        Number of rows in the chunk.
    first_draw_idx : int
        Index in the chain of the draw in row 0, warm-up included.
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
        """One past the index of the draw in the last row."""
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
        """Load recorded rows into the empty buffer."""
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
