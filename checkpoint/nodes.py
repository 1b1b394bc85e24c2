"""Arrays that were written whole, read by their own documents: data, constants, clocks."""

from typing import Any

import numpy as np

from checkpoint.arrays import TEXT, ArraySpec, as_dates
from checkpoint.documents import read_document
from checkpoint.manifest import Manifest
from checkpoint.stores import Store

__all__ = ["array_names", "array_spec", "is_array", "read_array", "read_attributes", "read_dims"]


def read_array(store: Store, manifest: Manifest, path: str) -> np.ndarray[Any, Any]:
    """Return an array that was written whole: constants, coordinates, data; dates as dates."""
    spec = array_spec(store, manifest, path)
    if 0 in spec.shape:
        return np.empty(spec.shape, dtype=object if spec.is_text else spec.dtype)
    first = (0 for _ in spec.shape)
    values = spec.read_chunk(store, *first)[tuple(slice(0, n) for n in spec.shape)]
    is_integer = spec.dtype == "<i8"  # as dates are
    return as_dates(values, read_attributes(store, manifest, path)) if is_integer else values


def array_spec(store: Store, manifest: Manifest, path: str) -> ArraySpec:
    """Return how an array lies in the store, by its own document."""
    document = _array_document(store, manifest, path)
    # What is empty, as of arrays without dimensions, others may leave out.
    shape = document.get("shape", [])
    if manifest.zarr_format == 3:
        grid = document["chunk_grid"]
        settings = {} if isinstance(grid, str) else grid.get("configuration", {})
        dtype, chunk = document["data_type"], settings.get("chunk_shape", [])
        is_text = dtype == "string"
    else:
        dtype, chunk = document["dtype"], document.get("chunks", [])
        is_text = dtype == "|O"
    return ArraySpec(
        path=path,
        dtype=TEXT if is_text else np.dtype(dtype).str,
        shape=tuple(shape),
        chunk_shape=tuple(chunk),
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
        return list(_array_document(store, manifest, path).get("dimension_names") or [])
    return list(read_attributes(store, manifest, path).get("_ARRAY_DIMENSIONS", []))


def read_attributes(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    """Return the attributes of an array."""
    if manifest.zarr_format == 3:
        return dict(_array_document(store, manifest, path).get("attributes", {}))
    return read_document(store, manifest, f"{path}/.zattrs")


def _array_document(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    name = "zarr.json" if manifest.zarr_format == 3 else ".zarray"
    return read_document(store, manifest, f"{path}/{name}")
