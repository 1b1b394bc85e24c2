"""Arrays that were written whole, read by their own documents: data, constants, clocks."""

from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint.arrays import TEXT, ArraySpec, as_dates
from checkpoint.documents import read_document
from checkpoint.errors import DamagedStoreError
from checkpoint.manifest import Manifest
from checkpoint.rows import is_number
from checkpoint.stores import Store

__all__ = [
    "array_names",
    "array_spec",
    "is_array",
    "read_array",
    "read_attributes",
    "read_dims",
    "read_number",
]


def read_array(store: Store, manifest: Manifest, path: str) -> np.ndarray[Any, Any]:
    """Return an array that was written whole: constants, coordinates, data; dates as dates.

    Raises
    ------
    DamagedStoreError
        If its document or its chunk is missing or damaged.
    """
    spec = array_spec(store, manifest, path)
    if any(n > max(size, 1) for n, size in zip(spec.shape, spec.chunk_shape, strict=True)):
        raise _damaged(store, path, f"chunks of {spec.chunk_shape} for {spec.shape}, expected one")
    if 0 in spec.shape:
        return np.empty(spec.shape, dtype=object if spec.is_text else spec.dtype)
    first = (0 for _ in spec.shape)
    values = spec.read_chunk(store, *first)[tuple(slice(0, n) for n in spec.shape)]
    is_integer = spec.dtype == "<i8"  # as dates are
    return as_dates(values, read_attributes(store, manifest, path)) if is_integer else values


def read_number(store: Store, manifest: Manifest, path: str) -> float:
    """Return the value of an array that holds one number."""
    value = read_array(store, manifest, path)
    if value.shape or value.dtype.kind not in "iuf":
        raise DamagedStoreError(
            f"{store.name}: {path} has shape {value.shape} and dtype {value.dtype}; expected one "
            "number. Restore that array from a copy."
        )
    return float(value[()])


def array_spec(store: Store, manifest: Manifest, path: str) -> ArraySpec:
    """Return how an array lies in the store, by its own document.

    Raises
    ------
    DamagedStoreError
        If the document is damaged, or describes no array.
    """
    document = _array_document(store, manifest, path)
    # What is empty, as of arrays without dimensions, others may leave out.
    shape = document.get("shape", [])
    if manifest.zarr_format == 3:
        grid = document.get("chunk_grid")
        settings = grid.get("configuration", {}) if isinstance(grid, dict) else {}
        dtype, chunk_shape = document.get("data_type"), settings.get("chunk_shape", [])
    else:
        dtype, chunk_shape = document.get("dtype"), document.get("chunks", [])
    is_text = dtype == ("string" if manifest.zarr_format == 3 else "|O")
    if not is_text and not is_number(dtype):
        raise _damaged(store, path, f"it has the dtype {dtype!r:.100}")
    if not _is_shape(shape) or not _is_shape(chunk_shape) or len(shape) != len(chunk_shape):
        raise _damaged(store, path, f"shape {shape!r:.100}, in chunks of {chunk_shape!r:.100}")
    return ArraySpec(
        path=path,
        dtype=TEXT if is_text else np.dtype(dtype).str,
        shape=tuple(shape),
        chunk_shape=tuple(chunk_shape),
        dimension_names=(),
        zarr_format=manifest.zarr_format,
        compressor=manifest.codec,
    )


def array_names(store: Store, manifest: Manifest, group: str) -> list[str]:
    """Return the names of all arrays below a group; a name may hold a slash."""
    document = "/zarr.json" if manifest.zarr_format == 3 else "/.zarray"
    # What was written is asked for: an array that is missing must not go unnoticed.
    keys = manifest.documents or store.keys(f"{group}/")
    folders = [
        key.removesuffix(document)
        for key in keys
        if key.startswith(f"{group}/") and key.endswith(document)
    ]
    return sorted(
        folder.removeprefix(f"{group}/")
        for folder in folders
        if folder != group and is_array(store, manifest, folder)
    )


def is_array(store: Store, manifest: Manifest, path: str) -> bool:
    """Return whether a node that has a document is an array; groups of format 2 have another."""
    return manifest.zarr_format == 2 or (
        _array_document(store, manifest, path).get("node_type") == "array"
    )


def read_dims(store: Store, manifest: Manifest, path: str) -> list[str]:
    """Return the dimension names of an array."""
    if manifest.zarr_format == 3:
        names = _array_document(store, manifest, path).get("dimension_names") or []
    else:
        names = read_attributes(store, manifest, path).get("_ARRAY_DIMENSIONS", [])
    if isinstance(names, list) and all(map(layout.is_key, names)):
        return names
    raise _damaged(store, path, f"its dimensions are named {names!r:.100}")


def read_attributes(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    """Return the attributes of an array."""
    if manifest.zarr_format == 3:
        attributes = _array_document(store, manifest, path).get("attributes", {})
        return attributes if isinstance(attributes, dict) else {}
    return read_document(store, manifest, f"{path}/.zattrs")


def _array_document(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    name = "zarr.json" if manifest.zarr_format == 3 else ".zarray"
    return read_document(store, manifest, f"{path}/{name}")


def _is_shape(value: Any) -> bool:
    """Return whether a value is a shape that an array can have."""
    is_list = isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
    if not is_list:
        return False
    try:
        np.broadcast_to(np.uint8(0), value)
    except (ValueError, OverflowError):
        return False
    return True


def _damaged(store: Store, path: str, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{store.name}: the metadata of {path} is damaged ({what}). Restore that file from a copy."
    )
