"""Digests of the rows of a chain, to check that they follow each other and are of one run.

A chunk does not name its run: one of another run, or of an older copy, passes its own checksum. A
digest is taken of values, so that it does not depend on how rows are cut into chunks.
"""

import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from checkpoint.format.arrays import TEXT
from checkpoint.format.rows import Column, Values

__all__ = ["RowDigest"]

_BEGINNING = struct.Struct("<QI")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class RowDigest:
    """A digest of a chain's first rows: one CRC-32 for each column.

    Attributes
    ----------
    n_rows : int
        Number of rows, warm-up included.
    crcs : tuple of int
        In the order of the columns; 0 for those kept per commit.
    """

    n_rows: int
    crcs: tuple[int, ...]

    @classmethod
    def of_no_rows(cls, run_id: int, chain: int, columns: Sequence[Column]) -> Self:
        """Return the digest that a chain of a run begins with."""
        begun = zlib.crc32(_BEGINNING.pack(run_id, chain))
        return cls(
            0, tuple(0 if c.per_commit else zlib.crc32(c.path.encode(), begun) for c in columns)
        )

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Self:
        return cls(int(numbers[0]), tuple(map(int, numbers[1:])))

    def numbers(self) -> list[int]:
        return [self.n_rows, *self.crcs]

    def after(self, columns: Sequence[Column], rows: Mapping[str, Values], n_rows: int) -> Self:
        """Return the digest of these rows and the ones that follow."""
        crcs = [
            0 if column.per_commit else zlib.crc32(_bytes_of(column, rows[column.path]), crc)
            for column, crc in zip(columns, self.crcs, strict=True)
        ]
        return type(self)(self.n_rows + n_rows, tuple(crcs))


def _bytes_of(column: Column, values: Values) -> Any:
    if column.dtype == TEXT:
        texts = [text.encode() for text in values.ravel().tolist()]
        return b"".join([part for text in texts for part in (_LENGTH.pack(len(text)), text)])
    if sys.byteorder != "little":
        values = values.astype(values.dtype.newbyteorder("<"))
    return np.ascontiguousarray(values).data.cast("B") if values.size else b""
