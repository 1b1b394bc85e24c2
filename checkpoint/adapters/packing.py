"""Pack the small columns of a sampler's state into one array for each dtype.

A NUTS step has some twenty counters, numbers and truth values. If each had an array in both
phases, these would be most of the files of a run, and take most of the time to open it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.format.arrays import TEXT
from checkpoint.format.rows import Column, RowSource, Values

__all__ = ["Pack", "PackedRows", "pack", "views"]

_MOST_ITEMS = 16
"""Largest number of items in a value of a small column."""


@dataclass(frozen=True)
class Pack:
    """Columns that share one array, side by side.

    Attributes
    ----------
    path : str
        Path of that array.
    dtype : str
        Type that holds each value of each member exactly.
    members : tuple of Column
        The columns, in order; each takes as many items as its value has.
    """

    path: str
    dtype: str
    members: tuple[Column, ...]

    @property
    def column(self) -> Column:
        """Column that holds all members."""
        return Column(self.path, self.dtype, (sum(map(_n_items, self.members)),))

    def slices(self) -> dict[str, tuple[Column, int | slice]]:
        """Return each member and its position in the array, by path."""
        found: dict[str, tuple[Column, int | slice]] = {}
        start = 0
        for member in self.members:
            stop = start + _n_items(member)
            found[member.path] = (member, slice(start, stop) if member.shape else start)
            start = stop
        return found

    def to_json(self) -> list[Any]:
        members = [[member.path, member.dtype, list(member.shape)] for member in self.members]
        return [self.path, self.dtype, members]

    @classmethod
    def from_json(cls, document: Any) -> "Pack":
        path, dtype, members = document
        found = tuple(Column.from_json([*member, False]) for member in members)
        if any(_packed_dtype(column) != dtype for column in found):
            raise ValueError(f"the columns of {path!r:.200} do not fit {dtype!r:.20}")
        return cls(path, dtype, found)


def pack(columns: Iterable[Column]) -> tuple[Pack, ...]:
    """Return the packs of the small columns, one for each dtype that has at least two."""
    by_dtype: dict[str, list[Column]] = {}
    for column in columns:
        dtype = _packed_dtype(column)
        if dtype is not None:
            by_dtype.setdefault(dtype, []).append(column)
    return tuple(
        Pack(f"packed_{dtype[1:]}", dtype, tuple(members))
        for dtype, members in sorted(by_dtype.items())
        if len(members) > 1
    )


def views(packs: Iterable[Pack], prefix: str, data: Mapping[str, Values]) -> dict[str, Values]:
    """Return rows by column; rows of packed columns are views of the packed array."""
    found = dict(data)
    for one in packs:
        rows = data[prefix + one.path]
        found |= {prefix + path: rows[:, at] for path, (_, at) in one.slices().items()}
    return found


class PackedRows:
    """A `RowSource` that finds packed columns by their own paths."""

    def __init__(self, rows: RowSource, packs: Iterable[Pack], prefix: str) -> None:
        self._rows = rows
        self._places = {
            prefix + path: (prefix + one.path, column, at)
            for one in packs
            for path, (column, at) in one.slices().items()
        }

    def value(self, path: str, draw_idx: int) -> Any:
        if path not in self._places:
            return self._rows.value(path, draw_idx)
        packed, column, at = self._places[path]
        return self._rows.value(packed, draw_idx)[at].astype(column.dtype)

    def values(self, path: str, start: int, stop: int) -> Values:
        if path not in self._places:
            return self._rows.values(path, start, stop)
        packed, column, at = self._places[path]
        return self._rows.values(packed, start, stop)[:, at].astype(column.dtype)


def _n_items(column: Column) -> int:
    return column.shape[0] if column.shape else 1


def _packed_dtype(column: Column) -> str | None:
    """Return the dtype in which a column is packed, or None if it is kept by itself."""
    if column.dtype == TEXT or column.per_commit or len(column.shape) > 1:
        return None
    if not 0 < _n_items(column) <= _MOST_ITEMS:
        return None
    dtype = np.dtype(column.dtype)
    if dtype.kind == "b" or (dtype.kind == "i") or (dtype.kind == "u" and dtype.itemsize < 8):
        return "<i8"
    return dtype.str
