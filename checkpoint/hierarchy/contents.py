"""The contents of a run's hierarchy other than its rows, and the keys and values of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.arrays import group_document, whole_array
from checkpoint.format.layout import is_metadata
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.clocks import (
    read_global_warnings,
    read_sampling_time,
    read_time,
)
from checkpoint.hierarchy.nodes import (
    array_keys,
    array_names,
    read_array,
    read_attributes,
    read_dims,
    scalar_keys,
)
from checkpoint.hierarchy.saved_model import SavedModel, read_saved_model, saved_model_keys
from checkpoint.hierarchy.sessions import History, encode_history, read_history
from checkpoint.stores import Store

__all__ = [
    "Contents",
    "coord_of",
    "dims_of",
    "node_keys",
    "read_contents",
    "session_keys",
]


@dataclass(frozen=True)
class Contents:
    """The contents of the hierarchy other than the rows.

    Attributes
    ----------
    coords : mapping of str to sequence
        Coordinates by dimension.
    dims : mapping of str to list of str
        Dimensions by variable.
    data : mapping of str to mapping of str to ndarray
        Constant and observed data, by group and name.
    initial_points : mapping of str to ndarray
        Initial points by value variable, ``(n_chains, *shape)``.
    constants : mapping of str to ndarray
        Arrays of the step methods that do not change, by path.
    free : set of str
        Names of the free variables; the others of the posterior are deterministic.
    sampling_time : float
        Seconds spent sampling so far.
    sampling_start_time : float
        Seconds since 1970 at which the run was created.
    global_warnings : str
        The warnings of the convergence checks, a list as plain text.
    history : History
        The sessions in which the run was sampled.
    saved_model : SavedModel or None
        The pickled model, if it is kept.
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
    history: History = field(default_factory=History)
    saved_model: SavedModel | None = None


def node_keys(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Return the metadata of all nodes below the root, and the chunks of whole arrays."""
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
            name = layout.name_of(name)
            dims = dims_of(name, column.shape, contents.dims)
            free = group == layout.UNCONSTRAINED or name in contents.free
            attributes = {"kind": "freeRV" if free else "deterministic", **_true_name(name)}
        spec = manifest.spec(column, warmup, [*map(layout.stored_name, dims)], attributes)
        keys |= spec.documents()
        if group != layout.STATE:
            of_group = coords.setdefault(layout.group_of_phase(group, warmup), {})
            for dim, size in zip(dims, column.shape, strict=True):
                of_group.setdefault(dim, coord_of(dim, size, contents.coords))
    n_draws, size = (
        (manifest.tune, manifest.warmup_chunk) if warmup else (manifest.draws, manifest.chunk)
    )
    for group, of_group in coords.items():
        # Chunked as the draws are: extending a run leaves the chunks that a reader may need.
        _, draws = whole_array(
            layout.member(group, "draw"),
            np.arange(n_draws),
            ("draw",),
            manifest.zarr_format,
            manifest.codec,
            chunk_shape=(size,),
        )
        keys |= draws
        of_group["chain"] = np.arange(manifest.chains)
        keys |= _named_arrays(manifest, group, of_group, {dim: (dim,) for dim in of_group})
    return keys


def _data_group(
    manifest: Manifest, contents: Contents, group: str, data: Mapping[str, Any]
) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    coords: dict[str, Any] = {}
    dims = {name: dims_of(name, values.shape, contents.dims) for name, values in data.items()}
    for name, values in data.items():
        for dim, size in zip(dims[name], values.shape, strict=True):
            coords.setdefault(dim, coord_of(dim, size, contents.coords))
    keys |= _named_arrays(manifest, group, data, dims)
    return keys | _named_arrays(manifest, group, coords, {dim: (dim,) for dim in coords})


def _named_arrays(
    manifest: Manifest,
    group: str,
    arrays: Mapping[str, Any],
    dims: Mapping[str, Sequence[str]],
) -> dict[str, bytes]:
    """Return the keys and values of arrays whose names and dimensions come from the model."""
    keys: dict[str, bytes] = {}
    for name, values in arrays.items():
        _, of_array = whole_array(
            f"{group}/{layout.stored_name(name)}",
            values,
            [*map(layout.stored_name, dims[name])],
            manifest.zarr_format,
            manifest.codec,
            _true_name(name),
        )
        keys |= of_array
    return keys


def _true_name(name: str) -> dict[str, str]:
    """Return the attribute with a name that is stored under another; xarray plots show it."""
    return {} if layout.stored_name(name) == name else {"long_name": name}


def _state_group(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    keys = manifest.draw_idx_spec().documents()
    if manifest.has_digests or not manifest.documents:  # older runs stay without
        keys |= manifest.digest_spec().documents()
    keys |= array_keys(manifest, layout.state_path("chain"), np.arange(manifest.chains), ("chain",))
    keys |= scalar_keys(manifest, "tuning_steps", manifest.tune)
    for name, values in contents.initial_points.items():
        path = layout.initial_point_path(manifest.point_paths[name])
        stored = path.rpartition("/")[2]
        dims = ("chain", *(f"{stored}_dim_{i}" for i in range(values.ndim - 1)))
        keys |= array_keys(manifest, path, values, dims)
    for path, values in contents.constants.items():
        name = path.rsplit("/", 1)[-1]
        keys |= array_keys(manifest, path, values, [f"{name}_dim_{i}" for i in range(values.ndim)])
    # The commit log lies below an array node, where zarr lists no members.
    _, documents = whole_array(
        layout.LOG, np.zeros(0, "u1"), ("byte",), manifest.zarr_format, manifest.codec
    )
    return keys | documents


def session_keys(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Return the keys and values that sessions write: clocks, final warnings, records, a model."""
    keys = scalar_keys(manifest, "sampling_time", contents.sampling_time)
    keys |= scalar_keys(manifest, "global_warnings", contents.global_warnings)
    keys |= scalar_keys(manifest, "sampling_start_time", contents.sampling_start_time)
    if contents.saved_model is not None:
        keys |= saved_model_keys(contents.saved_model)
    return keys | (encode_history(contents.history) if contents.history.sessions else {})


def dims_of(name: str, shape: tuple[int, ...], known: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the dimensions of a variable, with generated names where it has none."""
    named = known.get(name, [])
    if len(named) != len(shape):
        named = []
    return tuple(
        (named[i] if named and named[i] is not None else f"{name}_dim_{i}")
        for i in range(len(shape))
    )


def coord_of(dim: str, size: int, known: Mapping[str, Any]) -> Any:
    """Return the coordinates along a dimension; those counted from 0 where it has none."""
    values = known.get(dim)
    if values is None or len(values) != size:
        return np.arange(size)
    array = np.asarray(values)
    if array.ndim != 1:  # tuples: the levels of a multi-index
        array = np.array([str(value) for value in values])
    return array


def read_contents(store: Store, manifest: Manifest) -> Contents:
    """Return the contents of a run's hierarchy other than its rows.

    Raises
    ------
    DamagedStoreError
        If any of them is missing or damaged, except the history and the saved model.
    """
    paths: list[str] = []
    dims: dict[str, list[str]] = {}
    data: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for group in (layout.CONSTANT_DATA, layout.OBSERVED_DATA):
        names = array_names(store, manifest, group)
        of_group = {name: read_dims(store, manifest, layout.member(group, name)) for name in names}
        of_data = [name for name in names if of_group[name] != [name]]  # not a coordinate
        data[group] = {
            layout.name_of(name): read_array(store, manifest, layout.member(group, name))
            for name in of_data
        }
        paths += [layout.member(group, name) for name in of_data]
        dims |= {layout.member(group, name): of_group[name] for name in of_data}
    free = set()
    for column in manifest.columns:
        group, _, name = column.path.partition("/")
        if group in (layout.POSTERIOR, layout.UNCONSTRAINED):
            paths.append(column.path)
            dims[column.path] = read_dims(store, manifest, column.path)[2:]
            attributes = read_attributes(store, manifest, column.path)
            if group == layout.POSTERIOR and attributes.get("kind") == "freeRV":
                free.add(layout.name_of(name))
    return Contents(
        coords=_read_coords(store, manifest, paths, dims),
        dims={
            layout.name_of(path.partition("/")[2]): [*map(layout.name_of, names)]
            for path, names in dims.items()
        },
        data=data,
        initial_points={
            name: read_array(store, manifest, layout.initial_point_path(path))
            for name, path in manifest.point_paths.items()
        },
        constants={path: read_array(store, manifest, path) for path in manifest.constant_paths()},
        free=frozenset(free),
        sampling_time=read_sampling_time(store, manifest),
        sampling_start_time=read_time(store, manifest, "sampling_start_time"),
        global_warnings=read_global_warnings(store, manifest),
        history=_history(store),
        saved_model=_saved_model(store),
    )


def _history(store: Store) -> History:
    try:
        return read_history(store)
    except DamagedStoreError:  # no draw is affected; the next session starts a new one
        return History()


def _saved_model(store: Store) -> SavedModel | None:
    try:
        return read_saved_model(store)
    except DamagedStoreError:  # no draw is affected; the next session can save it again
        return None


def _read_coords(
    store: Store, manifest: Manifest, paths: Sequence[str], dims: Mapping[str, list[str]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the coordinates of the model, without those that only count from 0."""
    coords: dict[str, np.ndarray[Any, Any]] = {}
    seen = set()
    for path in paths:
        group = path.partition("/")[0]
        for stored in dims[path]:
            dim, at = layout.name_of(stored), layout.member(group, stored)
            if at in seen or dim in coords:
                continue
            seen.add(at)
            values = read_array(store, manifest, at)
            counting = np.arange(len(values))
            if values.dtype != counting.dtype or not np.array_equal(values, counting):
                coords[dim] = values
    return coords
