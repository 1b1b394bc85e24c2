"""Arrays that were written whole, read by their documents, which others may have written."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint.arrays import TEXT, ArraySpec, Compressor, as_dates
from checkpoint.documents import parse
from checkpoint.errors import DamagedStoreError
from checkpoint.rows import is_number
from checkpoint.stores import Store

__all__ = ["read_array", "read_attributes", "read_dims", "read_document", "read_number"]


def read_array(
    store: Store, path: str, zarr_format: int, compressor: Compressor
) -> np.ndarray[Any, Any]:
    """Return an array that was written whole; dates as dates.

    Raises
    ------
    DamagedStoreError
        If its document or its chunk is missing or damaged.
    """
    document = read_document(store, path, zarr_format)
    try:
        spec = _described(path, document, zarr_format, compressor)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedStoreError(
            f"{store.name}: the metadata of {path} is damaged ({error}). "
            "Restore that file from a copy."
        ) from error
    if 0 in spec.shape:
        return np.empty(spec.shape, dtype=object if spec.is_text else spec.dtype)
    chunk = spec.read_chunk(store, *(0 for _ in spec.shape))
    values = chunk[tuple(slice(0, n) for n in spec.shape)]
    is_integer = spec.dtype == "<i8"  # as dates are
    return as_dates(values, read_attributes(store, path, zarr_format)) if is_integer else values


def read_number(store: Store, path: str, zarr_format: int, compressor: Compressor) -> float:
    """Return the value of an array that holds one number."""
    value = read_array(store, path, zarr_format, compressor)
    if value.shape or value.dtype.kind not in "iuf":
        raise DamagedStoreError(
            f"{store.name}: {path} has shape {value.shape} and dtype {value.dtype}; expected one "
            "number. Restore that array from a copy."
        )
    return float(value[()])


def read_dims(store: Store, path: str, zarr_format: int) -> list[str]:
    """Return the dimension names of an array."""
    if zarr_format == 3:
        names = read_document(store, path, zarr_format).get("dimension_names")
    else:
        names = read_attributes(store, path, zarr_format).get("_ARRAY_DIMENSIONS")
    if isinstance(names, list) and all(map(layout.is_key, names)):
        return names
    raise DamagedStoreError(
        f"{store.name}: the metadata of {path} has the names of dimensions {names!r:.100}. "
        "Restore that file from a copy."
    )


def read_attributes(store: Store, path: str, zarr_format: int) -> dict[str, Any]:
    """Return the attributes of an array."""
    if zarr_format == 3:
        attributes = read_document(store, path, zarr_format).get("attributes", {})
        return attributes if isinstance(attributes, dict) else {}
    key = f"{path}/.zattrs"
    return _document(store, key) if store.has(key) else {}


def read_document(store: Store, path: str, zarr_format: int) -> dict[str, Any]:
    """Return the metadata document of an array."""
    return _document(store, f"{path}/{'zarr.json' if zarr_format == 3 else '.zarray'}")


def _document(store: Store, key: str) -> dict[str, Any]:
    data = store.read(key)
    try:
        return parse(data)
    except ValueError as error:
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is missing or damaged ({error}). "
            "Restore that file from a copy."
        ) from error


def _described(
    path: str, document: Mapping[str, Any], zarr_format: int, compressor: Compressor
) -> ArraySpec:
    """Return the array of one chunk that a metadata document describes.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it describes none.
    """
    if zarr_format == 3:
        dtype = document["data_type"]
        chunk_shape = document["chunk_grid"]["configuration"]["chunk_shape"]
    else:
        dtype, chunk_shape = document["dtype"], document["chunks"]
    shape = document["shape"]
    is_text = dtype == ("string" if zarr_format == 3 else "|O")
    if not is_text and not is_number(dtype):
        raise ValueError(f"an array of dtype {dtype!r:.100}")
    if not all(type(n) is int and n >= 0 for n in (*shape, *chunk_shape)):
        raise ValueError(f"an array of shape {shape!r:.100}, in chunks of {chunk_shape!r:.100}")
    if any(n > max(size, 1) for n, size in zip(shape, chunk_shape, strict=True)):
        raise ValueError(f"chunks of {chunk_shape!r:.100} for {shape!r:.100}, expected one chunk")
    dtype = TEXT if is_text else np.dtype(dtype).str
    if 0 in shape:
        np.empty(shape, "u1")  # is it a shape?
    return ArraySpec(path, dtype, tuple(shape), tuple(chunk_shape), (), zarr_format, compressor)
