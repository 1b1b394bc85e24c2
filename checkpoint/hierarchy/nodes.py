"""Read arrays that were written whole, such as data and constants, by their own documents."""

from typing import Any

import numpy as np

from checkpoint.errors import DamagedStoreError, too_large
from checkpoint.format import layout
from checkpoint.format.arrays import BYTES, TEXT, ArraySpec, whole_array
from checkpoint.format.dates import decode_dates
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import is_bytes, is_number
from checkpoint.hierarchy.documents import read_document
from checkpoint.stores import Store

__all__ = [
    "array_keys",
    "array_names",
    "array_spec",
    "is_array",
    "read_array",
    "read_attributes",
    "read_chunk",
    "read_dims",
    "read_number",
    "scalar_keys",
]


def read_array(store: Store, manifest: Manifest, path: str) -> np.ndarray[Any, Any]:
    """Return an array that was written whole, such as constants and data, with dates decoded.

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
    values = read_chunk(store, spec, *first)[tuple(slice(0, n) for n in spec.shape)]
    is_integer = spec.dtype == "<i8"  # as dates are
    return decode_dates(values, read_attributes(store, manifest, path)) if is_integer else values


def read_chunk(store: Store, spec: ArraySpec, *index: int) -> np.ndarray[Any, Any]:
    """Return one chunk of an array, which must exist.

    Raises
    ------
    DamagedStoreError
        If it is missing or fails its checksum.
    """
    key = spec.chunk_key(*index)
    data = store.read(key)
    if data is None:
        raise DamagedStoreError(
            f"{store.name}: the chunk {key} is missing although its draws were sealed. "
            "Restore that file from a copy."
        )
    try:
        return spec.decode(data)
    except MemoryError as error:
        raise too_large(store.name, f"the chunk {key}", error) from error
    except Exception as error:
        raise DamagedStoreError(
            f"{store.name}: the chunk {key} is damaged ({error}). Restore that file from a copy."
        ) from error


def read_number(store: Store, manifest: Manifest, path: str) -> float:
    """Return the value of an array that holds one number.

    Raises
    ------
    DamagedStoreError
        If the array is missing or damaged, or holds something else.
    """
    value = read_array(store, manifest, path)
    if value.shape or value.dtype.kind not in "iuf":
        raise DamagedStoreError(
            f"{store.name}: {path} has shape {value.shape} and dtype {value.dtype}; expected one "
            "number. Restore that array from a copy."
        )
    return float(value[()])


def array_spec(store: Store, manifest: Manifest, path: str) -> ArraySpec:
    """Return the layout of an array in the store, as its own document describes it.

    Raises
    ------
    DamagedStoreError
        If the document is damaged, or describes no array.
    """
    document = _array_document(store, manifest, path)
    # Other programs may leave out empty lists, as of arrays without dimensions.
    shape = document.get("shape", [])
    if manifest.zarr_format == 3:
        grid = document.get("chunk_grid")
        settings = grid.get("configuration", {}) if isinstance(grid, dict) else {}
        dtype, chunk_shape = _name_of(document), settings.get("chunk_shape", [])
    else:
        dtype, chunk_shape = document.get("dtype"), document.get("chunks", [])
    is_text = dtype == ("string" if manifest.zarr_format == 3 else "|O")
    if not is_text and not is_number(dtype) and not is_bytes(dtype):
        raise _damaged(store, path, f"it has the dtype {dtype!r:.100}")
    if not _is_shape(shape) or not _is_shape(chunk_shape) or len(shape) != len(chunk_shape):
        raise _damaged(store, path, f"shape {shape!r:.100}, in chunks of {chunk_shape!r:.100}")
    spec = ArraySpec(
        path=path,
        dtype=TEXT if is_text else np.dtype(dtype).str,
        shape=tuple(shape),
        chunk_shape=tuple(chunk_shape),
        dimension_names=(),
        zarr_format=manifest.zarr_format,
        compressor=manifest.codec,
    )
    if not spec.is_bounded:
        raise _damaged(store, path, f"its chunks take {spec.chunk_nbytes} bytes")
    return spec


def array_names(store: Store, manifest: Manifest, group: str) -> list[str]:
    """Return the names of all arrays below a group; a name may hold a slash."""
    document = f"/{layout.NODE}" if manifest.zarr_format == 3 else f"/{layout.ARRAY_V2}"
    # The documents that were written are looked up, so that a missing array is noticed.
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
    """Return whether a node is an array; always in format 2, where groups have other documents."""
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
    return read_document(store, manifest, layout.member(path, layout.ATTRIBUTES_V2))


def _array_document(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    name = layout.NODE if manifest.zarr_format == 3 else layout.ARRAY_V2
    return read_document(store, manifest, f"{path}/{name}")


def _name_of(document: dict[str, Any]) -> Any:
    """Return the dtype of a document of format 3 as numpy, or `string`, names it."""
    dtype = document.get("data_type")
    if not isinstance(dtype, dict) or dtype.get("name") != BYTES:
        return dtype
    settings = dtype.get("configuration", {})
    return f"|S{settings.get('length_bytes') if isinstance(settings, dict) else None}"


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


def scalar_keys(manifest: Manifest, name: str, value: float | int | str) -> dict[str, bytes]:
    """Return the keys and values of an array of the sampling state that holds one value."""
    return array_keys(manifest, layout.state_path(name), np.asarray(value), ())


def array_keys(manifest: Manifest, path: str, values: Any, dims: Any) -> dict[str, bytes]:
    """Return the keys and values of an array that is written whole."""
    _, keys = whole_array(path, values, dims, manifest.zarr_format, manifest.codec)
    return keys
