"""Arrays as zarr 2 wrote them, read without zarr.

zarr reads a missing chunk as fill values, and decodes an array of objects by loading its pickles.
Here a missing chunk is an error, and objects stay bytes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from checkpoint.errors import DamagedStoreError, FormatVersionError, too_large
from checkpoint.format import layout
from checkpoint.format.codecs import BYTE_CODECS, byte_codec
from checkpoint.format.json_object import parse_object
from checkpoint.format.unpacking import MOST_CHUNK_NBYTES, most_text_nbytes, unpack
from checkpoint.stores import Store

__all__ = ["Zarr2Array", "open_array"]

_KINDS = "biufcmMSU"
"""Kinds of numpy dtypes whose items are plain bytes."""


@dataclass(frozen=True)
class Zarr2Array:
    """One array of a store.

    Attributes
    ----------
    store : Store
    path : str
    shape, chunk_shape : tuple of int
    dtype : numpy.dtype or None
        None for objects.
    dims : tuple of str
        Dimension names, as xarray keeps them.
    attributes : dict
    codec : numcodecs codec or None
    separator : str
        Separator of the numbers in the key of a chunk.
    order : str
        ``"C"`` or ``"F"``.
    """

    store: Store
    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    dims: tuple[str, ...]
    attributes: dict[str, Any]
    codec: Any
    separator: str
    order: Any

    @property
    def is_coordinate(self) -> bool:
        return self.dims == (self.path.rsplit("/", 1)[-1],)

    def read(self, *bounds: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Return the values between bounds of the first dimensions, and all of the others.

        Raises
        ------
        DamagedStoreError
            If a chunk is missing or cannot be decoded.
        FormatVersionError
            If the values are objects.
        """
        if self.dtype is None:
            raise FormatVersionError(
                f"{self.store.name}: {self.path} is an array of pickled objects, which are not "
                "loaded; expected numbers or text. Nothing was changed."
            )
        bounds = (*bounds, *((0, n) for n in self.shape[len(bounds) :]))
        try:
            values = np.empty([stop - start for start, stop in bounds], self.dtype)
        except MemoryError as error:
            what = f"{self.path} of shape {self.shape} and dtype {self.dtype}"
            raise too_large(self.store.name, what, error) from error
        except ValueError as error:
            raise DamagedStoreError(
                f"{self.store.name}: the metadata says that {self.path} has shape {self.shape} and "
                f"dtype {self.dtype}, which no array can have: {error}. Nothing was changed."
            ) from error
        if values.size == 0:
            return values
        grid = [
            range(start // size, -(-stop // size))
            for (start, stop), size in zip(bounds, self.chunk_shape, strict=True)
        ]
        for index in itertools.product(*grid):
            target, source = self._overlap(index, bounds)
            values[target] = self._chunk(index)[source]
        return values

    def raw_chunk(self, *index: int) -> bytes | None:
        """Return a chunk, decompressed, or None if it was never written."""
        data = self.store.read(self.chunk_key(*index))
        if data is None:
            return None
        try:
            return self._decompress(data)
        except MemoryError as error:
            raise too_large(self.store.name, self.chunk_key(*index), error) from error
        except Exception as error:
            raise self._damaged(index, str(error)) from error

    def chunk_key(self, *index: int) -> str:
        """Return the key of a chunk."""
        return f"{self.path}/{self.separator.join(map(str, index)) or '0'}"

    def _chunk(self, index: Sequence[int]) -> np.ndarray[Any, Any]:
        assert self.dtype is not None
        raw = self.raw_chunk(*index)
        if raw is None:
            raise self._damaged(index, "missing")
        if len(raw) != self._n_bytes:
            raise self._damaged(index, f"{len(raw)} bytes, expected {self._n_bytes}")
        return np.frombuffer(raw, self.dtype).reshape(self.chunk_shape, order=self.order)

    @property
    def _n_bytes(self) -> int | None:
        return None if self.dtype is None else prod(self.chunk_shape) * self.dtype.itemsize

    def _decompress(self, data: bytes) -> bytes:
        most = most_text_nbytes(len(data)) if self._n_bytes is None else self._n_bytes
        return unpack(self.codec, data, most)

    def _overlap(
        self, index: Sequence[int], bounds: Sequence[tuple[int, int]]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the part of the result that a chunk fills, and the part of the chunk for it."""
        target, source = [], []
        for i, size, (start, stop) in zip(index, self.chunk_shape, bounds, strict=True):
            first, last = max(start, i * size), min(stop, (i + 1) * size)
            target.append(slice(first - start, last - start))
            source.append(slice(first - i * size, last - i * size))
        return tuple(target), tuple(source)

    def _damaged(self, index: Sequence[int], reason: str) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self.store.name}: the chunk {self.chunk_key(*index)} is missing or damaged "
            f"({reason}). Nothing was changed. Restore that file from a copy."
        )


def open_array(store: Store, path: str) -> Zarr2Array:
    """Return an array from its metadata documents.

    Raises
    ------
    DamagedStoreError
        If they are missing or damaged.
    FormatVersionError
        If its chunks have an encoding that zarr 2 does not write by itself.
    """
    document = _document(store, layout.member(path, layout.ARRAY_V2), required=True)
    attributes = _document(store, layout.member(path, layout.ATTRIBUTES_V2), required=False)
    dims = attributes.get("_ARRAY_DIMENSIONS", [])
    if not isinstance(dims, list) or not all(isinstance(dim, str) for dim in dims):
        raise _bad_document(
            store, layout.member(path, layout.ATTRIBUTES_V2), f"{dims!r} are no names of dimensions"
        )
    try:
        is_object = document["dtype"] == "|O"
        dtype = None if is_object else np.dtype(document["dtype"])
        shape, chunk_shape = _grid(document["shape"], document["chunks"])
        separator, order = document.get("dimension_separator", "."), document["order"]
        compressor, filters = document["compressor"], document["filters"]
        _check_plain(store, path, dtype, compressor, None if is_object else filters)
        codec = None if compressor is None else byte_codec(compressor)
        if prod(chunk_shape) * (8 if dtype is None else dtype.itemsize) > MOST_CHUNK_NBYTES:
            raise ValueError(f"chunks of {chunk_shape}, larger than {MOST_CHUNK_NBYTES} bytes")
        if separator not in (".", "/") or order not in ("C", "F"):
            raise ValueError(f"separator {separator!r}, order {order!r}")
    except FormatVersionError:
        raise
    except Exception as error:  # codecs raise what they like
        raise _bad_document(store, layout.member(path, layout.ARRAY_V2), error) from error
    return Zarr2Array(
        store, path, shape, chunk_shape, dtype, tuple(dims), attributes, codec, separator, order
    )


def _grid(shape: Any, chunk_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for size in (*shape, *chunk_shape):
        if type(size) is not int or size < 0:
            raise ValueError(f"{size!r} is no size")
    if any(size == 0 for n, size in zip(shape, chunk_shape, strict=True) if n > 0):
        raise ValueError("chunks without length")
    return tuple(shape), tuple(chunk_shape)


def _check_plain(
    store: Store, path: str, dtype: np.dtype[Any] | None, compressor: Any, filters: Any
) -> None:
    """Check that decoding an array cannot run code from the store."""
    name = None if compressor is None else compressor["id"]
    is_plain = dtype is None or dtype.kind in _KINDS
    if is_plain and not filters and name in (None, *BYTE_CODECS):
        return
    raise FormatVersionError(
        f"{store.name}: {path} has dtype {dtype}, compressor {name} and filters {filters}; "
        f"expected plain numbers or text, no filters, and a compressor among "
        f"{', '.join(BYTE_CODECS)}. Nothing was changed. Copy the store with zarr to one that "
        "has these."
    )


def _document(store: Store, key: str, required: bool) -> dict[str, Any]:
    data = store.read(key)
    if data is None and not required:
        return {}
    try:
        return parse_object(data)
    except ValueError as error:
        raise _bad_document(store, key, error) from error


def _bad_document(store: Store, key: str, error: Exception | str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{store.name}: the metadata {key} is missing or damaged ({error}). Nothing was changed. "
        "Restore that file from a copy."
    )
