"""What is in the hierarchy of a run beside its rows, and the keys and values that hold it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint.arrays import group_document, whole_array
from checkpoint.manifest import Manifest

__all__ = [
    "DOCUMENTS",
    "Contents",
    "coord_of",
    "dims_of",
    "is_metadata",
    "node_keys",
    "scalar_keys",
    "session_keys",
]

DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""Names of metadata documents."""


@dataclass(frozen=True)
class Contents:
    """What goes into the hierarchy beside the rows.

    Attributes
    ----------
    coords : mapping of str to sequence
        Coordinates by dimension.
    dims : mapping of str to list of str
        Dimensions by variable.
    data : mapping of str to mapping of str to ndarray
        Constant and observed data, by group and name.
    initial_points : mapping of str to ndarray
        Start by value variable, ``(n_chains, *shape)``.
    constants : mapping of str to ndarray
        Arrays of the step methods that do not change, by path.
    free : set of str
        Names of the free variables; the others of the posterior are deterministic.
    sampling_time : float
        Seconds spent sampling so far.
    sampling_start_time : float
        Seconds since 1970 at which the run was created.
    global_warnings : str
        What the convergence checks found, a list as plain text.
    """

    coords: Mapping[str, Any]
    dims: Mapping[str, list[str]]
    data: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
    initial_points: Mapping[str, np.ndarray[Any, Any]]
    constants: Mapping[str, np.ndarray[Any, Any]]
    free: frozenset[str] = field(default_factory=frozenset)
    sampling_time: float = 0.0
    sampling_start_time: float = field(default_factory=time.time)
    global_warnings: str = "[]"


def node_keys(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Return the metadata of all nodes below the root, and the chunks of those known whole."""
    keys: dict[str, bytes] = {}
    for warmup in (False, True):
        if warmup and manifest.tune == 0:
            continue
        keys |= _column_arrays(manifest, contents, warmup)
    for group, data in contents.data.items():
        if data:
            keys |= _data_group(manifest, contents, group, data)
    keys |= _state_group(manifest, contents)
    # Every folder on the way to an array is a group.
    folders = {
        "/".join(parts[:i])
        for key in keys
        if is_metadata(key)
        for parts in [key.split("/")[:-1]]
        for i in range(1, len(parts))
    }
    for folder in sorted(folders):
        keys |= group_document(folder, manifest.zarr_format)
    return keys


def _column_arrays(manifest: Manifest, contents: Contents, warmup: bool) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    coords: dict[str, dict[str, Any]] = {}
    for column in manifest.columns:
        group, _, name = column.path.partition("/")
        dims: tuple[str, ...] = ()
        attributes: dict[str, str] = {}
        if group in (layout.POSTERIOR, layout.UNCONSTRAINED):
            dims = dims_of(name, column.shape, contents.dims)
            free = group == layout.UNCONSTRAINED or name in contents.free
            attributes = {"kind": "freeRV" if free else "deterministic"}
        spec = manifest.spec(column, warmup, dims, attributes)
        keys |= spec.documents()
        if group != layout.STATE:
            of_group = coords.setdefault(layout.group_of_phase(group, warmup), {})
            for dim, size in zip(spec.dimension_names[2:], column.shape, strict=True):
                of_group.setdefault(dim, coord_of(dim, size, contents.coords))
    n_draws, size = (
        (manifest.tune, manifest.warmup_chunk) if warmup else (manifest.draws, manifest.chunk)
    )
    for group, of_group in coords.items():
        # Chunked as the draws are: extending a run leaves the chunks that a reader may need.
        _, draws = whole_array(
            f"{group}/draw",
            np.arange(n_draws),
            ("draw",),
            manifest.zarr_format,
            manifest.codec,
            chunk_shape=(size,),
        )
        keys |= draws
        of_group["chain"] = np.arange(manifest.chains)
        for dim, values in of_group.items():
            keys |= _array(manifest, f"{group}/{dim}", values, (dim,))
    return keys


def _data_group(
    manifest: Manifest, contents: Contents, group: str, data: Mapping[str, Any]
) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    coords: dict[str, Any] = {}
    for name, values in data.items():
        dims = dims_of(name, values.shape, contents.dims)
        keys |= _array(manifest, f"{group}/{name}", values, dims)
        for dim, size in zip(dims, values.shape, strict=True):
            coords.setdefault(dim, coord_of(dim, size, contents.coords))
    for dim, values in coords.items():
        keys |= _array(manifest, f"{group}/{dim}", values, (dim,))
    return keys


def _state_group(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    keys = manifest.draw_idx_spec().documents()
    keys |= _array(manifest, f"{layout.STATE}/chain", np.arange(manifest.chains), ("chain",))
    keys |= scalar_keys(manifest, "tuning_steps", manifest.tune)
    for name, values in contents.initial_points.items():
        dims = ("chain", *(f"{name}_dim_{i}" for i in range(values.ndim - 1)))
        keys |= _array(manifest, f"{layout.INITIAL_POINT}/{name}", values, dims)
    for path, values in contents.constants.items():
        name = path.rsplit("/", 1)[-1]
        keys |= _array(manifest, path, values, [f"{name}_dim_{i}" for i in range(values.ndim)])
    # The commit log hides below an array node, where zarr lists no members.
    _, documents = whole_array(
        layout.LOG, np.zeros(0, "u1"), ("byte",), manifest.zarr_format, manifest.codec
    )
    return keys | documents


def session_keys(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Return the arrays that a session changes: clocks, and warnings at its end."""
    keys = scalar_keys(manifest, "sampling_time", contents.sampling_time)
    keys |= scalar_keys(manifest, "global_warnings", contents.global_warnings)
    return keys | scalar_keys(manifest, "sampling_start_time", contents.sampling_start_time)


def scalar_keys(manifest: Manifest, name: str, value: float | int | str) -> dict[str, bytes]:
    """Return an array of the sampling state that holds one value."""
    return _array(manifest, f"{layout.STATE}/{name}", np.asarray(value), ())


def _array(manifest: Manifest, path: str, values: Any, dims: Any) -> dict[str, bytes]:
    _, keys = whole_array(path, values, dims, manifest.zarr_format, manifest.codec)
    return keys


def dims_of(name: str, shape: tuple[int, ...], known: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the dimensions of a variable, with names made up where it has none."""
    named = known.get(name, [])
    if len(named) != len(shape):
        named = []
    return tuple(
        (named[i] if named and named[i] is not None else f"{name}_dim_{i}")
        for i in range(len(shape))
    )


def coord_of(dim: str, size: int, known: Mapping[str, Any]) -> Any:
    """Return the coordinates along a dimension, counted where it has none."""
    values = known.get(dim)
    if values is None or len(values) != size:
        return np.arange(size)
    array = np.asarray(values)
    if array.ndim != 1:  # tuples: the levels of a multi-index
        array = np.array([str(value) for value in values])
    return array


def is_metadata(key: str) -> bool:
    """Return whether a key is that of a metadata document."""
    return key.rsplit("/", 1)[-1] in DOCUMENTS
