"""The Zarr hierarchy of a run: groups, arrays, coordinates, data, and the root above them.

All metadata is written before the first draw. The root document comes first, saying that a run
is begun, and last, with the manifest: only then there is a run, however much of it was written
before. It holds the metadata of all nodes a second time (consolidated), which xarray asks for.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint.arrays import (
    Compressor,
    group_document,
    whole_array,
)
from checkpoint.contents import (
    DOCUMENTS,
    Contents,
    is_metadata,
    node_keys,
    scalar_keys,
    session_keys,
)
from checkpoint.documents import (
    check_no_remains,
    read_attribute,
    root_attributes,
    sealed_attribute,
    with_documents,
)
from checkpoint.errors import NotARunError, RunNotFoundError
from checkpoint.manifest import Manifest
from checkpoint.nodes import array_names, read_array, read_attributes, read_dims, read_number
from checkpoint.stores import Store

__all__ = [
    "Contents",
    "array_names",
    "begin",
    "create",
    "existing_manifest",
    "extend",
    "is_zarr_group",
    "is_zarr_trace",
    "lay_out",
    "publish",
    "read_array",
    "read_contents",
    "read_dims",
    "read_global_warnings",
    "read_manifest",
    "read_sampling_time",
    "write_global_warnings",
    "write_sampling_time",
]


_OF_ZARR_TRACE = ("sampling_state", "draw_idx", "tuning_steps", "sampling_time", "chain")
"""Arrays below STATE that PyMC's ZarrTrace has; a run of ours lacks the first."""

_BEGUN = {"format_version": layout.FORMAT_VERSION, "is_begun": True}


def begin(store: Store, zarr_format: int) -> None:
    """Write the root of a run that is about to be created, so that a kill leaves a beginning.

    It is a valid Zarr group. `read_manifest` takes it for an empty store, and `create` writes
    over it. What a run that was begun before has left is removed: its rows must not be taken
    for those of the next.
    """
    compressor = Compressor(None)
    _, keys = whole_array(layout.LOG, np.zeros(0, "u1"), ("byte",), zarr_format, compressor)
    keys |= group_document(layout.STATE, zarr_format)
    root = group_document("", zarr_format, {layout.ATTRIBUTE: _BEGUN})
    store.write(keys)
    # The root is there before anything goes: without it, what is left would be nobody's. Of
    # format 2 its attributes come first: without them it would be somebody else's.
    for key in sorted(root):
        store.write({key: root[key]})
    found = {key for key in store.keys("") if _is_of_a_run(key)}
    if leftovers := found - keys.keys() - root.keys():
        store.remove(sorted(leftovers))


def create(store: Store, manifest: Manifest, contents: Contents) -> Manifest:
    """Write the hierarchy of a new run; return its manifest as it was written.

    Notes
    -----
    Durability: on return all of it is durable; before the last write there is no run.
    """
    return publish(store, manifest, lay_out(store, manifest, contents))


def lay_out(store: Store, manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Write the hierarchy of a new run, all but its root; return the metadata of its nodes.

    Until `publish` there is no run. What is written before that comes with it.
    """
    keys = node_keys(manifest, contents)
    keys |= session_keys(manifest, contents)
    # The last before the root: where they are, all else is.
    spec = manifest.draw_idx_spec()
    keys |= {spec.chunk_key(chain): spec.encode([0]) for chain in range(manifest.chains)}
    store.write(keys)
    return _metadata(keys)


def publish(store: Store, manifest: Manifest, nodes: Mapping[str, bytes]) -> Manifest:
    """Write the root over the nodes whose metadata is given: now there is a run.

    Returns
    -------
    Manifest
        As it was written, with the checksums of the metadata.

    Notes
    -----
    Durability: all that was written before must be durable, or be written before this.
    """
    # In order: zarr 3.1 finds the members of a group only where they follow each other.
    metadata = {key: json.loads(nodes[key]) for key in sorted(nodes)}
    manifest = with_documents(manifest, metadata)
    attributes = {layout.ATTRIBUTE: sealed_attribute(manifest)}
    root = group_document("", manifest.zarr_format, attributes)
    if manifest.zarr_format == 3:
        document = json.loads(root["zarr.json"])
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {key.removesuffix("/zarr.json"): doc for key, doc in metadata.items()},
        }
        store.write({"zarr.json": json.dumps(document).encode()})
        return manifest
    metadata |= {key: json.loads(value) for key, value in root.items()}
    consolidated = {"metadata": metadata, "zarr_consolidated_format": 1}
    store.write({".zmetadata": json.dumps(consolidated).encode(), ".zattrs": root[".zattrs"]})
    store.write({".zgroup": root[".zgroup"]})
    return manifest


def extend(store: Store, manifest: Manifest, contents: Contents) -> Manifest:
    """Make room for more draws; return the manifest as it was written. Chunks stay as they are."""
    keys = node_keys(manifest, contents) | _metadata(session_keys(manifest, contents))
    store.write(keys)
    return publish(store, manifest, _metadata(keys))


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest of the run in a store, or None if the store is empty.

    Raises
    ------
    NotARunError
        If the store holds something else.
    FormatVersionError
        If the run is of a newer format.
    DamagedStoreError
        If what is in the root fails its checksum, or is not there above a run.
    """
    attributes = root_attributes(store)
    if attributes is None:
        found = [name for name in store.names("") if not name.startswith(".")]
        attributes = root_attributes(store)  # it may have come while we looked
    if attributes is None:
        if found and found != [layout.STATE]:
            check_no_remains(store, "is missing")
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
        check_no_remains(store, f"has no attribute {layout.ATTRIBUTE}")
        raise NotARunError(
            f"{store.name} holds a Zarr group that checkpoint did not write. Nothing was changed. "
            "Choose another path."
        )
    if attributes[layout.ATTRIBUTE] == _BEGUN:
        return None
    manifest = read_attribute(store, attributes[layout.ATTRIBUTE])
    return manifest if _is_complete(store, manifest) else None


def existing_manifest(store: Store) -> Manifest:
    """Return the manifest of the run in a store; `RunNotFoundError` if the store is empty."""
    manifest = read_manifest(store)
    if manifest is None:
        raise RunNotFoundError(f"{store.name} holds no run. Check the path.")
    return manifest


def is_zarr_trace(store: Store) -> bool:
    """Return whether PyMC's ZarrTrace wrote a store, with zarr 2."""
    keys = [f"{layout.STATE}/{name}/.zarray" for name in _OF_ZARR_TRACE]
    return not store.missing([".zgroup", f"{layout.POSTERIOR}/.zgroup", *keys])


def is_zarr_group(store: Store) -> bool:
    """Return whether there is a Zarr group at the root, of whatever program."""
    return store.has("zarr.json") or store.has(".zgroup")


def read_contents(store: Store, manifest: Manifest) -> Contents:
    """Return what the hierarchy of a run holds beside its rows.

    Raises
    ------
    DamagedStoreError
        If anything of it is missing or damaged.
    """
    dims: dict[str, list[str]] = {}
    data: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for group in (layout.CONSTANT_DATA, layout.OBSERVED_DATA):
        names = array_names(store, manifest, group)
        of_group = {name: read_dims(store, manifest, f"{group}/{name}") for name in names}
        data[group] = {
            name: read_array(store, manifest, f"{group}/{name}")
            for name in names
            if of_group[name] != [name]  # a coordinate
        }
        dims |= {name: of_group[name] for name in data[group]}
    paths = [f"{group}/{name}" for group, names in data.items() for name in names]
    free = set()
    for column in manifest.columns:
        group, _, name = column.path.partition("/")
        if group in (layout.POSTERIOR, layout.UNCONSTRAINED):
            paths.append(column.path)
            dims[name] = read_dims(store, manifest, column.path)[2:]
            attributes = read_attributes(store, manifest, column.path)
            if group == layout.POSTERIOR and attributes.get("kind") == "freeRV":
                free.add(name)
    return Contents(
        coords=_read_coords(store, manifest, paths, dims),
        dims=dims,
        data=data,
        initial_points={
            name: read_array(store, manifest, f"{layout.INITIAL_POINT}/{name}")
            for name in manifest.point_paths
        },
        constants={path: read_array(store, manifest, path) for path in manifest.constant_paths()},
        free=frozenset(free),
        sampling_time=read_sampling_time(store, manifest),
        sampling_start_time=_read_number(store, manifest, "sampling_start_time"),
        global_warnings=read_global_warnings(store, manifest),
    )


def _read_coords(
    store: Store, manifest: Manifest, paths: Sequence[str], dims: Mapping[str, list[str]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the coordinates of the model; those that only count were not the model's."""
    coords: dict[str, np.ndarray[Any, Any]] = {}
    seen = set()
    for path in paths:
        group, _, name = path.partition("/")
        for dim in dims[name]:
            at = f"{group}/{dim}"
            if at in seen or dim in coords:
                continue
            seen.add(at)
            values = read_array(store, manifest, at)
            counting = np.arange(len(values))
            if values.dtype != counting.dtype or not np.array_equal(values, counting):
                coords[dim] = values
    return coords


def write_sampling_time(store: Store, manifest: Manifest, seconds: float) -> None:
    """Keep the time spent sampling, over all sessions."""
    keys = scalar_keys(manifest, "sampling_time", seconds)
    store.write({key: value for key, value in keys.items() if not is_metadata(key)})


def write_global_warnings(store: Store, manifest: Manifest, text: str) -> None:
    """Keep what the convergence checks found, a list as plain text."""
    keys = scalar_keys(manifest, "global_warnings", text)
    store.write({key: value for key, value in keys.items() if not is_metadata(key)})


def read_global_warnings(store: Store, manifest: Manifest) -> str:
    """Return what the convergence checks found, a list as plain text."""
    return str(read_array(store, manifest, f"{layout.STATE}/global_warnings"))


def read_sampling_time(store: Store, manifest: Manifest) -> float:
    """Return the time spent sampling, over all sessions, in seconds."""
    return _read_number(store, manifest, "sampling_time")


def _read_number(store: Store, manifest: Manifest, name: str) -> float:
    return read_number(store, manifest, f"{layout.STATE}/{name}")


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
    return any(name not in DOCUMENTS for folder in folders for name in store.names(folder))


def _metadata(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in keys.items() if is_metadata(key)}


def _is_of_a_run(key: str) -> bool:
    """Return whether the creation of a run may have written a key; claims come before it."""
    top, slash, _ = key.partition("/")
    if not slash:
        return key in (*DOCUMENTS, ".zmetadata")
    return top in layout.GROUPS and not key.startswith(layout.CLAIM)
