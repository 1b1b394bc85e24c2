"""Entries of the commit log: rows of one chain as one checksummed value, and back.

An entry is a fixed header, then a zstd frame of a JSON list of the columns and their rows, one
column after the other. It describes itself and is read without pickle. See
`docs/format-v1.md`, which states the layout byte by byte.
"""

import json
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numcodecs
import numpy as np

from checkpoint.format.arrays import TEXT
from checkpoint.format.incompressible import quick_if_hopeless
from checkpoint.format.rows import Column, Values
from checkpoint.format.unpacking import unpack

__all__ = ["Entry", "EntryError", "decode", "encode", "encode_columns"]

MAGIC = b"PMCKLOG\x01"

# magic, format, reserved, chain, run, first draw, rows, bytes of the column list, bytes of the
# uncompressed body, bytes of the compressed body
_HEADER = struct.Struct("<8sHHIQQQIQQ")
_CHECKSUM = struct.Struct("<I")
_LENGTHS = np.dtype("<u4")

# The log is short-lived: the fastest level already removes what rows have in common.
_ZSTD = numcodecs.Zstd(level=1)

# A frame may not claim to unpack to more than this many times its size: the most that rows of
# equal values reach is below it, and a forged frame cannot ask for unbounded memory.
_MAX_RATIO = 100_000


class EntryError(ValueError):
    """Bytes that are no whole log entry."""


@dataclass(frozen=True)
class Entry:
    """Rows of one chain, decoded.

    Attributes
    ----------
    run_id : int
    chain : int
    first_draw_idx : int
        The chain's draw that row 0 holds, warm-up included.
    n_rows : int
    columns : tuple of Column
    data : mapping of str to ndarray
        Rows by column path, each ``(n_rows, *shape)``; ``(1, *shape)`` for those per commit.
    """

    run_id: int
    chain: int
    first_draw_idx: int
    n_rows: int
    columns: tuple[Column, ...]
    data: Mapping[str, Values]

    @property
    def stop_draw_idx(self) -> int:
        """One past the last row's draw."""
        return self.first_draw_idx + self.n_rows

    def value(self, path: str, draw_idx: int) -> Any:
        values = self.data[path]
        return values[0 if len(values) == 1 else draw_idx - self.first_draw_idx]

    def values(self, path: str, start: int, stop: int) -> Values:
        return self.data[path][start - self.first_draw_idx : stop - self.first_draw_idx]


def encode(
    run_id: int,
    chain: int,
    first_draw_idx: int,
    n_rows: int,
    columns: Sequence[Column],
    data: Mapping[str, Values],
    column_list: bytes | None = None,
) -> bytes:
    """Return the entry that holds rows.

    Parameters
    ----------
    run_id, chain, first_draw_idx, n_rows : int
    columns : sequence of Column
    data : mapping of str to ndarray
        Rows by column path.
    column_list : bytes, optional
        What `encode_columns` returns for `columns`; saves time if many entries are encoded.
    """
    names = encode_columns(columns) if column_list is None else column_list
    body = b"".join([names, *(_pack(column, data[column.path]) for column in columns)])
    packed = bytes(quick_if_hopeless(_ZSTD, body).encode(body))
    header = _HEADER.pack(
        MAGIC, 1, 0, chain, run_id, first_draw_idx, n_rows, len(names), len(body), len(packed)
    )
    checksum = zlib.crc32(packed, zlib.crc32(header))
    return b"".join([header, packed, _CHECKSUM.pack(checksum)])


def decode(entry: bytes, most_rows: int | None = None, most_nbytes: int | None = None) -> Entry:
    """Return the rows of an entry.

    Parameters
    ----------
    entry : bytes
    most_rows, most_nbytes : int, optional
        Limits of its rows and of its unpacked bytes, if they are known.

    Raises
    ------
    EntryError
        If it is not whole: it is too short, too long, or its checksum is wrong. If it exceeds a
        limit of rows or bytes.
    """
    smallest = _HEADER.size + _CHECKSUM.size
    if len(entry) < smallest:
        raise EntryError(f"{len(entry)} bytes, expected at least {smallest}")
    header = entry[: _HEADER.size]
    magic, version, _, chain, run_id, first, n_rows, n_names, n_body, n_packed = _HEADER.unpack(
        header
    )
    if magic != MAGIC or version != 1:
        raise EntryError("it does not begin as a log entry of format 1")
    if len(entry) != smallest + n_packed:
        raise EntryError(f"{len(entry)} bytes, expected {smallest + n_packed}")
    packed = entry[_HEADER.size : -_CHECKSUM.size]
    [checksum] = _CHECKSUM.unpack(entry[-_CHECKSUM.size :])
    found = zlib.crc32(packed, zlib.crc32(header))
    if found != checksum:
        raise EntryError(f"checksum {found:08x}, expected {checksum:08x}")
    if most_rows is not None and n_rows > most_rows:
        raise EntryError(f"it claims {n_rows} rows, expected at most {most_rows}")
    likely = max(1 << 20, _MAX_RATIO * n_packed)
    if n_body > (likely if most_nbytes is None else min(likely, most_nbytes)):
        raise EntryError(f"it claims to unpack {n_packed} bytes to {n_body}")
    try:
        body = memoryview(unpack(_ZSTD, packed, n_body))
        if len(body) != n_body:
            raise EntryError(f"{len(body)} bytes unpacked, expected {n_body}")
        columns = _columns(bytes(body[:n_names]))
        data = _unpack_all(columns, n_rows, body, n_names)
    except (EntryError, MemoryError):  # what does not fit into memory may be whole
        raise
    except Exception as error:  # whatever a forged body makes the decoders raise
        raise EntryError(f"its body cannot be read: {error}") from error
    return Entry(run_id, chain, first, n_rows, columns, data)


def encode_columns(columns: Sequence[Column]) -> bytes:
    """Return the list of columns that an entry begins with."""
    return json.dumps([column.to_json() for column in columns], separators=(",", ":")).encode()


@lru_cache(maxsize=4)  # the entries of a run all begin with the same list
def _columns(names: bytes) -> tuple[Column, ...]:
    return tuple(Column.from_json(item) for item in json.loads(names))


def _pack(column: Column, values: Values) -> bytes:
    if column.dtype != TEXT:
        if sys.byteorder == "little":
            return values.tobytes()
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for text in values.ravel().tolist()]
    lengths = np.fromiter(map(len, texts), dtype=_LENGTHS, count=len(texts))
    return b"".join([lengths.tobytes(), *texts])


def _unpack_all(
    columns: Sequence[Column], n_rows: int, body: memoryview, offset: int
) -> dict[str, Values]:
    data = {}
    for column in columns:
        n = 1 if column.per_commit else n_rows
        data[column.path], offset = _unpack(column, n, body, offset)
    if offset != len(body):
        raise EntryError(f"{len(body) - offset} bytes too many")
    return data


def _unpack(column: Column, n_rows: int, body: memoryview, offset: int) -> tuple[Values, int]:
    shape = (n_rows, *column.shape)
    size = prod(shape)
    if column.dtype != TEXT:
        dtype = np.dtype(column.dtype)
        if dtype.hasobject or size * dtype.itemsize > len(body) - offset:
            raise EntryError(f"the rows of {column.path!r:.200} are cut off")
        values = np.frombuffer(body, dtype.newbyteorder("<"), count=size, offset=offset)
        end = offset + values.nbytes
        return values.astype(dtype).reshape(shape), end
    if size * _LENGTHS.itemsize > len(body) - offset:
        raise EntryError(f"the rows of {column.path!r:.200} are cut off")
    lengths = np.frombuffer(body, _LENGTHS, count=size, offset=offset)
    offset += lengths.nbytes
    texts = np.empty(size, dtype=object)
    for i, length in enumerate(lengths.tolist()):
        if length > len(body) - offset:
            raise EntryError(f"the rows of {column.path!r:.200} are cut off")
        texts[i] = bytes(body[offset : offset + length]).decode()
        offset += length
    return texts.reshape(shape), offset
