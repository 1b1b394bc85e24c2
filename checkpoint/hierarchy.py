"""The Zarr hierarchy of a run: groups, arrays, coordinates, data, and the root above them.

All metadata is written before the first draw. The root document comes first, saying that a run
is begun, and last, with the manifest: only then there is a run. It holds the metadata of all
nodes a second time (consolidated), which xarray asks for.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint.arrays import TEXT, ArraySpec, Compressor, group_document, whole_array
from checkpoint.errors import CheckpointError, DamagedStoreError, NotARunError
from checkpoint.manifest import Manifest
from checkpoint.stores import Store

__all__ = [
    "Contents",
    "begin",
    "create",
    "extend",
    "is_zarr_trace",
    "read_array",
    "read_dims",
    "read_manifest",
    "read_sampling_time",
    "write_sampling_time",
]


_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

_OF_ZARR_TRACE = ("sampling_state", "draw_idx", "tuning_steps", "sampling_time", "chain")
"""Arrays below STATE that PyMC's ZarrTrace has; a run of ours lacks the first."""

_BEGUN = {"format_version": layout.FORMAT_VERSION, "is_begun": True}


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
    """

    coords: Mapping[str, Any]
    dims: Mapping[str, list[str]]
    data: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
    initial_points: Mapping[str, np.ndarray[Any, Any]]
    constants: Mapping[str, np.ndarray[Any, Any]]
    free: frozenset[str] = field(default_factory=frozenset)


def begin(store: Store, zarr_format: int) -> None:
    """Write the root of a run that is about to be created, so that a kill leaves a beginning.

    It is a valid Zarr group. `read_manifest` takes it for an empty store, and `create` writes
    over it. What another beginning has left is removed.
    """
    if _root_attributes(store) is not None:
        log = f"{layout.LOG}/"
        store.remove([k for k in store.keys("") if "/" in k and not k.startswith(log)])
    compressor = Compressor(None)
    _, keys = whole_array(layout.LOG, np.zeros(0, "u1"), ("byte",), zarr_format, compressor)
    store.write(keys | group_document(layout.STATE, zarr_format))
    store.write(group_document("", zarr_format, {layout.ATTRIBUTE: _BEGUN}))


def create(
    store: Store, manifest: Manifest, contents: Contents, n_sealed: Sequence[int] = ()
) -> None:
    """Write the hierarchy of a new run.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    contents : Contents
    n_sealed : sequence of int
        Rows of each chain whose chunks are in the store already; none if it is empty.

    Notes
    -----
    Durability: on return all of it is durable; before the last write there is no run.
    """
    keys = _all_keys(manifest, contents)
    keys |= _clocks(manifest)
    # The last before the root: where they are, all else is.
    spec = manifest.draw_idx_spec()
    counts = n_sealed or [0] * manifest.chains
    keys |= {spec.chunk_key(chain): spec.encode([n]) for chain, n in enumerate(counts)}
    _put_with_root_last(store, manifest, keys)


def extend(store: Store, manifest: Manifest, contents: Contents) -> None:
    """Make room for more draws. Chunks stay as they are."""
    keys = _all_keys(manifest, contents)
    keys |= {key: value for key, value in _clocks(manifest).items() if _is_metadata(key)}
    _put_with_root_last(store, manifest, keys)


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest of the run in a store, or None if the store is empty.

    Raises
    ------
    NotARunError
        If the store holds something else.
    FormatVersionError
        If the run is of a newer format.
    """
    attributes = _root_attributes(store)
    if attributes is None:
        found = [name for name in store.names("") if not name.startswith(".")]
        attributes = _root_attributes(store)  # it may have come while we looked
    if attributes is None:
        if found and found != [layout.STATE]:
            raise NotARunError(
                f"{store.name} holds something else than a run of checkpoint: found "
                f"{', '.join(found[:5])}. Nothing was changed. Choose another path."
            )
        return None
    if layout.ATTRIBUTE not in attributes:
        if is_zarr_trace(store):
            raise NotARunError(
                f"{store.name} holds a store of PyMC's ZarrTrace that checkpoint did not write. "
                "Nothing was changed. Read it with checkpoint.open, turn it into a run with "
                "checkpoint.convert(old, new, model=model, allow_pickle=True), or choose another "
                "path."
            )
        raise NotARunError(
            f"{store.name} holds a Zarr group that checkpoint did not write. Nothing was changed. "
            "Choose another path."
        )
    if attributes[layout.ATTRIBUTE] == _BEGUN:
        return None
    manifest = Manifest.from_json(attributes[layout.ATTRIBUTE], store.name)
    return manifest if _is_complete(store, manifest) else None


def is_zarr_trace(store: Store) -> bool:
    """Return whether PyMC's ZarrTrace wrote a store, with zarr 2."""
    keys = [f"{layout.STATE}/{name}/.zarray" for name in _OF_ZARR_TRACE]
    return not store.missing([".zgroup", f"{layout.POSTERIOR}/.zgroup", *keys])


def write_sampling_time(store: Store, manifest: Manifest, seconds: float) -> None:
    """Keep the time spent sampling, over all sessions."""
    keys = _scalar(manifest, "sampling_time", seconds)
    store.write({key: value for key, value in keys.items() if not _is_metadata(key)})


def read_array(store: Store, manifest: Manifest, path: str) -> np.ndarray[Any, Any]:
    """Return an array that was written whole: constants, coordinates, data."""
    document = _array_document(store, manifest, path)
    if manifest.zarr_format == 3:
        dtype, chunk = document["data_type"], document["chunk_grid"]["configuration"]["chunk_shape"]
        is_text = dtype == "string"
    else:
        dtype, chunk = document["dtype"], document["chunks"]
        is_text = dtype == "|O"
    spec = ArraySpec(
        path=path,
        dtype=TEXT if is_text else np.dtype(dtype).str,
        shape=tuple(document["shape"]),
        chunk_shape=tuple(chunk),
        dimension_names=(),
        zarr_format=manifest.zarr_format,
        compressor=manifest.codec,
    )
    if 0 in spec.shape:
        return np.empty(spec.shape, dtype=object if is_text else dtype)
    values = spec.read_chunk(store, *(0 for _ in chunk))
    return values[tuple(slice(0, n) for n in spec.shape)]


def read_dims(store: Store, manifest: Manifest, path: str) -> list[str]:
    """Return the dimension names of an array."""
    if manifest.zarr_format == 3:
        return list(_array_document(store, manifest, path)["dimension_names"])
    attributes = json.loads(store.read(f"{path}/.zattrs") or b"{}")
    return list(attributes.get("_ARRAY_DIMENSIONS", []))


def _array_document(store: Store, manifest: Manifest, path: str) -> dict[str, Any]:
    key = f"{path}/{'zarr.json' if manifest.zarr_format == 3 else '.zarray'}"
    data = store.read(key)
    try:
        return dict(json.loads(data or b""))
    except ValueError as error:
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is missing or damaged ({error}). "
            "Restore that file from a copy."
        ) from error


def read_sampling_time(store: Store, manifest: Manifest) -> float:
    """Return the time spent sampling, over all sessions, in seconds."""
    return float(read_array(store, manifest, f"{layout.STATE}/sampling_time")[()])


def _is_complete(store: Store, manifest: Manifest) -> bool:
    """Return whether a run has all that it begins with, or anything that was recorded.

    A file that was compacted has its root before what it begins with; cut in between, it is a
    run that is about to be created.
    """
    if store.has(manifest.draw_idx_spec().chunk_key(manifest.chains - 1)):
        return True
    first = manifest.columns[0]
    phases = [True, False] if manifest.tune else [False]
    folders = [manifest.spec(first, warmup).path for warmup in phases]
    folders += [layout.log_folder(chain) for chain in range(manifest.chains)]
    return any(name not in _DOCUMENTS for folder in folders for name in store.names(folder))


def _root_attributes(store: Store) -> dict[str, Any] | None:
    try:
        if (data := store.read("zarr.json")) is not None:
            return dict(json.loads(data).get("attributes", {}))
        if store.has(".zgroup"):
            return dict(json.loads(store.read(".zattrs") or b"{}"))
    except CheckpointError:
        raise
    except (ValueError, AttributeError, TypeError) as error:
        raise NotARunError(
            f"{store.name} has a root document that cannot be read ({error}). Nothing was changed. "
            "Restore it from a copy, or choose another path."
        ) from error
    return None


def _all_keys(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
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
        if _is_metadata(key)
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
            dims = _dims_of(name, column.shape, contents)
            free = group == layout.UNCONSTRAINED or name in contents.free
            attributes = {"kind": "freeRV" if free else "deterministic"}
        spec = manifest.spec(column, warmup, dims, attributes)
        keys |= spec.documents()
        if group != layout.STATE:
            of_group = coords.setdefault(layout.group_of_phase(group, warmup), {})
            for dim, size in zip(spec.dimension_names[2:], column.shape, strict=True):
                of_group.setdefault(dim, _coord(dim, size, contents))
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
        dims = _dims_of(name, values.shape, contents)
        keys |= _array(manifest, f"{group}/{name}", values, dims)
        for dim, size in zip(dims, values.shape, strict=True):
            coords.setdefault(dim, _coord(dim, size, contents))
    for dim, values in coords.items():
        keys |= _array(manifest, f"{group}/{dim}", values, (dim,))
    return keys


def _state_group(manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    keys = manifest.draw_idx_spec().documents()
    keys |= _array(manifest, f"{layout.STATE}/chain", np.arange(manifest.chains), ("chain",))
    keys |= _scalar(manifest, "tuning_steps", manifest.tune)
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


def _clocks(manifest: Manifest) -> dict[str, bytes]:
    keys = _scalar(manifest, "sampling_time", 0.0)
    return keys | _scalar(manifest, "sampling_start_time", time.time())


def _scalar(manifest: Manifest, name: str, value: float | int) -> dict[str, bytes]:
    return _array(manifest, f"{layout.STATE}/{name}", np.asarray(value), ())


def _array(manifest: Manifest, path: str, values: Any, dims: Any) -> dict[str, bytes]:
    _, keys = whole_array(path, values, dims, manifest.zarr_format, manifest.codec)
    return keys


def _dims_of(name: str, shape: tuple[int, ...], contents: Contents) -> tuple[str, ...]:
    named = contents.dims.get(name, [])
    if len(named) != len(shape):
        named = []
    return tuple(
        (named[i] if named and named[i] is not None else f"{name}_dim_{i}")
        for i in range(len(shape))
    )


def _coord(dim: str, size: int, contents: Contents) -> Any:
    values = contents.coords.get(dim)
    if values is None or len(values) != size:
        return np.arange(size)
    array = np.asarray(values)
    if array.ndim != 1:  # tuples: the levels of a multi-index
        array = np.array([str(value) for value in values])
    return array


def _is_metadata(key: str) -> bool:
    return key.rsplit("/", 1)[-1] in _DOCUMENTS


def _put_with_root_last(store: Store, manifest: Manifest, keys: dict[str, bytes]) -> None:
    store.write(keys)
    attributes = {layout.ATTRIBUTE: manifest.to_json()}
    root = group_document("", manifest.zarr_format, attributes)
    # In order: zarr 3.1 finds the members of a group only where they follow each other.
    metadata = {key: json.loads(keys[key]) for key in sorted(keys) if _is_metadata(key)}
    if manifest.zarr_format == 3:
        document = json.loads(root["zarr.json"])
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {key.removesuffix("/zarr.json"): doc for key, doc in metadata.items()},
        }
        store.write({"zarr.json": json.dumps(document).encode()})
        return
    metadata |= {key: json.loads(value) for key, value in root.items()}
    consolidated = {"metadata": metadata, "zarr_consolidated_format": 1}
    store.write({".zmetadata": json.dumps(consolidated).encode(), ".zattrs": root[".zattrs"]})
    store.write({".zgroup": root[".zgroup"]})
