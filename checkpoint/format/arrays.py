"""Zarr arrays as metadata documents and encoded chunks, in format 2 and 3.

Writing a chunk through zarr costs about a millisecond of Python per array, and a run has a
hundred arrays. So a chunk is encoded here, with the array's own codecs, and handed to the store
as one value. Tests check that zarr reads what this module writes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numcodecs
import numpy as np
from numcodecs.checksum32 import CRC32C

from checkpoint.errors import ArgumentError
from checkpoint.format import layout
from checkpoint.format.compressors import Compressor, is_blosc
from checkpoint.format.dates import encode_dates
from checkpoint.format.unpacking import MOST_CHUNK_NBYTES, most_text_nbytes

__all__ = [
    "BYTES",
    "TEXT",
    "ArraySpec",
    "group_document",
    "whole_array",
]

TEXT = "text"
"""The dtype name of columns of text; zarr's variable-length UTF-8 `string`."""

BYTES = "null_terminated_bytes"
"""zarr's name, in format 3, of the dtype of bytes of a fixed length."""

_VLEN_UTF8 = numcodecs.VLenUTF8()
_CRC32C = CRC32C(location="end")


@dataclass(frozen=True)
class ArraySpec:
    """One array of a run: all that is needed to describe, write and read it."""

    path: str
    dtype: str
    """A numpy dtype string, of bytes too (``|S3``), or `TEXT`."""
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dimension_names: tuple[str, ...]
    zarr_format: int
    compressor: Compressor
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        return self.dtype == TEXT

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of an unpacked chunk; for text, only those of the lengths of its items."""
        itemsize = 4 if self.is_text else np.dtype(self.dtype).itemsize
        return prod(self.chunk_shape) * itemsize

    @property
    def is_bounded(self) -> bool:
        """Whether a chunk is small enough to be written and read."""
        return self.chunk_nbytes <= MOST_CHUNK_NBYTES

    def documents(self) -> dict[str, bytes]:
        """Return the metadata documents by key.

        Raises
        ------
        ArgumentError
            If its chunks are larger than the format allows.
        """
        if not self.is_bounded:
            raise ArgumentError(
                f"A chunk of {self.path} would take {self.chunk_nbytes} bytes, with the shape "
                f"{self.chunk_shape}; a store has chunks of at most {MOST_CHUNK_NBYTES}. Pass a "
                "smaller draws_per_chunk; a variable or data larger than that cannot be stored."
            )
        if self.zarr_format == 3:
            return {layout.member(self.path, layout.NODE): _json(self._document_v3())}
        document, attributes = self._documents_v2()
        return {
            layout.member(self.path, layout.ARRAY_V2): _json(document),
            layout.member(self.path, layout.ATTRIBUTES_V2): _json(attributes),
        }

    def chunk_key(self, *index: int) -> str:
        """Return the key of a chunk."""
        if self.zarr_format == 3:
            return f"{self.path}/{'.'.join(['c', *map(str, index)])}"
        return f"{self.path}/{'.'.join(map(str, index)) or '0'}"

    def encode(self, values: Any) -> bytes:
        """Encode one chunk.

        `values` has the chunk's shape or is shorter in its second dimension (draws); what is
        missing there becomes the fill value, as zarr requires of the last chunk of an array.
        """
        chunk = self._full_chunk(values)
        if self.is_text:
            raw: Any = _VLEN_UTF8.encode(chunk.ravel())
        else:
            raw = np.ascontiguousarray(chunk, dtype=np.dtype(self.dtype).newbyteorder("<"))
            if self.zarr_format == 3 or self.compressor.codec is None:
                # numcodecs' blosc shuffles by the item size of the buffer it is given.
                raw = raw if is_blosc(self.compressor.codec) else raw.tobytes()
        data = self.compressor.encode(raw)
        return bytes(_CRC32C.encode(data)) if self.zarr_format == 3 else data

    def decode(self, data: bytes) -> np.ndarray[Any, Any]:
        """Decode one chunk into an array of the chunk's shape."""
        if self.zarr_format == 3:
            data = bytes(_CRC32C.decode(data))
        n_items = prod(self.chunk_shape)
        if self.is_text:
            raw = self.compressor.decode(data, most_text_nbytes(len(data), n_items))
            found = int.from_bytes(raw[:4], "little")
            if found != n_items or len(raw) < 4 * (1 + n_items):  # the decoder allocates so many
                raise ValueError(f"{found} texts in {len(raw)} bytes, expected {n_items}")
            return np.asarray(_VLEN_UTF8.decode(raw), dtype=object).reshape(self.chunk_shape)
        dtype = np.dtype(self.dtype).newbyteorder("<")
        view = self.compressor.decode_view(data, n_items * dtype.itemsize)
        values = np.frombuffer(view, dtype).reshape(self.chunk_shape)
        return values.astype(self.dtype, copy=not values.flags.writeable)

    def _fill(self) -> Any:
        if self.is_text:
            return ""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "S":
            return b""
        return dtype.type(np.nan) if dtype.kind in "fc" else dtype.type(0)

    def _full_chunk(self, values: Any) -> np.ndarray[Any, Any]:
        values = np.asarray(values, dtype=object if self.is_text else self.dtype)
        if values.shape == self.chunk_shape:
            full: np.ndarray[Any, Any] = values
            return full
        chunk: np.ndarray[Any, Any] = np.full(self.chunk_shape, self._fill(), dtype=values.dtype)
        chunk[tuple(slice(0, n) for n in values.shape)] = values
        return chunk

    def _document_v3(self) -> dict[str, Any]:
        if self.is_text:
            first, itemsize = {"name": "vlen-utf8"}, 1
        else:
            dtype = np.dtype(self.dtype)
            first, itemsize = {"name": "bytes"}, dtype.itemsize
            if itemsize > 1 and dtype.kind != "S":
                first["configuration"] = {"endian": "little"}  # type: ignore[assignment]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": "string" if self.is_text else _data_type(np.dtype(self.dtype)),
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": list(self.chunk_shape)},
            },
            # All chunks of an array in one directory: fewer directories to make and to sync.
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": _fill_document(self._fill()),
            "codecs": [first, *self.compressor.document_v3(itemsize), {"name": "crc32c"}],
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dimension_names),
            "storage_transformers": [],
        }

    def _documents_v2(self) -> tuple[dict[str, Any], dict[str, Any]]:
        dtype = "|O" if self.is_text else np.dtype(self.dtype).newbyteorder("<").str
        # xarray masks values that equal a format 2 fill value, so only floats have one: NaN.
        is_float = not self.is_text and np.dtype(self.dtype).kind in "fc"
        document = {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunk_shape),
            "dtype": dtype,
            "compressor": self.compressor.document_v2(),
            "fill_value": _fill_document(self._fill()) if is_float else None,
            "order": "C",
            "filters": [{"id": "vlen-utf8"}] if self.is_text else None,
            "dimension_separator": ".",
        }
        return document, {**self.attributes, "_ARRAY_DIMENSIONS": list(self.dimension_names)}


def whole_array(
    path: str,
    values: Any,
    dimension_names: Sequence[str],
    zarr_format: int,
    compressor: Compressor,
    attributes: Mapping[str, Any] | None = None,
    chunk_shape: tuple[int, ...] | None = None,
) -> tuple[ArraySpec, dict[str, bytes]]:
    """Return an array of known values, with its documents and chunks by key."""
    values = np.asarray(values)
    is_text = values.dtype.kind in "OUT"
    if values.dtype.kind in "Mm":
        values, of_dates = encode_dates(values)
        attributes = {**(attributes or {}), **of_dates}
    spec = ArraySpec(
        path=path,
        dtype=TEXT if is_text else values.dtype.str,
        shape=values.shape,
        chunk_shape=chunk_shape or tuple(max(1, n) for n in values.shape),
        dimension_names=tuple(dimension_names),
        zarr_format=zarr_format,
        compressor=compressor,
        attributes=attributes or {},
    )
    if is_text:
        flat = list(map(str, values.ravel().tolist()))
        values = np.array([*flat, None], dtype=object)[:-1].reshape(values.shape)
    keys = spec.documents()
    n_chunks = [-(-n // m) for n, m in zip(spec.shape, spec.chunk_shape, strict=True)]
    for index in np.ndindex(*n_chunks):
        block = tuple(
            slice(i * m, (i + 1) * m) for i, m in zip(index, spec.chunk_shape, strict=True)
        )
        keys[spec.chunk_key(*index)] = spec.encode(values[block])
    return spec, keys


def group_document(
    path: str, zarr_format: int, attributes: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Return the metadata documents of a group by key."""
    prefix = f"{path}/" if path else ""
    attributes = dict(attributes or {})
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        return {f"{prefix}zarr.json": _json(document)}
    return {f"{prefix}.zgroup": _json({"zarr_format": 2}), f"{prefix}.zattrs": _json(attributes)}


def _data_type(dtype: np.dtype[Any]) -> Any:
    """Return the `data_type` of format 3."""
    if dtype.kind == "S":  # as zarr and xarray write bytes
        return {"name": BYTES, "configuration": {"length_bytes": dtype.itemsize}}
    return dtype.name


def _fill_document(fill: Any) -> Any:
    if isinstance(fill, str | bytes):
        return ""
    if isinstance(fill, np.complexfloating):
        return ["NaN", "NaN"]
    return "NaN" if isinstance(fill, np.floating) else fill.item()


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode()
