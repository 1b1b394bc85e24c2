"""The columns of a row, and the protocol by which recorded rows are read.

A row holds the result of one step of one chain. Its columns are the arrays of the format, so that
a chunk of rows, taken column by column, is a chunk of each array.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from checkpoint.format import layout
from checkpoint.format.arrays import TEXT

__all__ = ["Column", "RowSource", "is_bytes", "is_number"]

Values = np.ndarray[Any, Any]

_LONGEST_DTYPE = 20
"""Most letters in the name of a dtype; numpy parses longer ones, but none is of a number."""

_MOST_DIMS = 60
"""Most dimensions of a value: numpy has 64, and arrays have chain and draw in addition."""


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
        Whether only the last row before each commit holds it. For values that are too large, or
        too slow to capture, for every draw.
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
            If it is not valid: another form, a path out of the store, another kind of dtype.
        """
        if not isinstance(document, list) or len(document) != 4:
            raise ValueError(f"{document!r:.200} is no column")
        path, dtype, shape, per_commit = document
        if not layout.is_key(path):
            raise ValueError(f"the path {path!r:.200} of a column leads out of the store")
        if type(per_commit) is not bool or not (dtype == TEXT or is_number(dtype)):
            raise ValueError(
                f"the column {path!r:.200} has the dtype {dtype!r:.200}, {per_commit!r:.20}"
            )
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the column {path!r:.200} has the shape {shape!r:.200}")
        column = cls(path, dtype, tuple(shape), per_commit)
        if len(shape) > _MOST_DIMS or column.nbytes > sys.maxsize:
            raise ValueError(f"the column {path!r:.200} has the shape {shape!r:.200}, of no array")
        return column


def is_number(dtype: object) -> bool:
    """Return whether a text names a dtype of plain numbers or truth values."""
    if not isinstance(dtype, str) or len(dtype) > _LONGEST_DTYPE:
        return False
    try:
        return np.dtype(dtype).kind in "biufc"
    except (TypeError, ValueError, SyntaxError):
        return False


def is_bytes(dtype: object) -> bool:
    """Return whether a text names a dtype of bytes of a fixed length, of no more than 64 KiB."""
    found = re.fullmatch(r"\|S([1-9][0-9]{0,4})", dtype) if isinstance(dtype, str) else None
    return found is not None and int(found[1]) <= 1 << 16


class RowSource(Protocol):
    """Where recorded rows are read from: a buffer, a decoded log entry, a whole chain.

    Rows are counted from the chain's first draw, warm-up included.
    """

    def value(self, path: str, draw_idx: int) -> Any:
        """Return a column's value at one row."""

    def values(self, path: str, start: int, stop: int) -> Values:
        """Return a column's values at several rows, shape ``(stop - start, *shape)``."""


def row_nbytes(columns: Iterable[Column]) -> int:
    """Return the bytes of one row."""
    return sum(column.nbytes for column in columns)
