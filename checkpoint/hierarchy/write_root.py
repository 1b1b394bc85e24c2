"""Write the Zarr hierarchy of a run: groups, arrays, coordinates, data, and the root above them.

All metadata is written before the first draw. The root document is written twice: first as a
placeholder that marks the beginning of a run, and last with the manifest. The store holds a run
only from then on. The root also holds a copy of the metadata of all nodes (consolidated), which
xarray reads.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoint.format import layout
from checkpoint.format.arrays import group_document, whole_array
from checkpoint.format.checksums import sealed_attribute, with_documents
from checkpoint.format.compressors import Compressor
from checkpoint.format.layout import DOCUMENTS, is_metadata
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.contents import Contents, node_keys, session_keys
from checkpoint.hierarchy.nodes import (
    array_names,
    read_array,
    read_dims,
)
from checkpoint.hierarchy.read_root import BEGUN
from checkpoint.hierarchy.unfinished import as_shown, note_of
from checkpoint.stores import Store

__all__ = [
    "Contents",
    "array_names",
    "create",
    "lay_out",
    "publish",
    "read_array",
    "read_dims",
    "resize",
    "write_placeholder",
]


def write_placeholder(store: Store, zarr_format: int) -> None:
    """Write a placeholder for the root of a run that is about to be created.

    If the process is killed, the store holds a valid Zarr group, which `read_manifest` takes for
    an empty store and `create` overwrites. What an earlier, incomplete creation left is removed:
    its rows must not be taken for those of the new run.
    """
    compressor = Compressor(None)
    _, keys = whole_array(layout.LOG, np.zeros(0, "u1"), ("byte",), zarr_format, compressor)
    keys |= group_document(layout.STATE, zarr_format)
    root = group_document("", zarr_format, {layout.ATTRIBUTE: BEGUN})
    store.write(keys)
    # The root is written before anything is removed: without it, remaining keys would belong to no
    # run. In format 2 its attributes come first: without them the group would seem another's.
    for key in sorted(root):
        store.write({key: root[key]})
    found = {key for key in store.keys("") if _is_of_a_run(key)}
    if leftovers := found - keys.keys() - root.keys():
        store.remove(sorted(leftovers))


def create(store: Store, manifest: Manifest, contents: Contents) -> Manifest:
    """Write the hierarchy of a new run; return its manifest as it was written.

    Notes
    -----
    Durability: on return all of it is durable; until the last write the store holds no run.
    """
    return publish(store, manifest, lay_out(store, manifest, contents))


def lay_out(store: Store, manifest: Manifest, contents: Contents) -> dict[str, bytes]:
    """Write the hierarchy of a new run, all but its root; return the metadata of its nodes.

    The store holds no run until `publish`. What is written before that becomes part of the run.
    """
    keys = _shortened(manifest, node_keys(manifest, contents), [0] * manifest.chains)
    keys |= session_keys(manifest, contents)
    # The last keys before the root: if they exist, so do all others.
    spec = manifest.draw_idx_spec()
    keys |= {spec.chunk_key(chain): spec.encode([0]) for chain in range(manifest.chains)}
    store.write(keys)
    return _metadata(keys)


def publish(
    store: Store,
    manifest: Manifest,
    nodes: Mapping[str, bytes],
    counts: Sequence[int] | None = None,
) -> Manifest:
    """Write the root above nodes that were written; from then on the store holds a run.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    nodes : mapping of str to bytes
        Metadata of all nodes below the root, as it was written.
    counts : sequence of int, optional
        Sealed draws of each chain; none unless given.

    Returns
    -------
    Manifest
        As it was written, with the checksums of the metadata.

    Notes
    -----
    Durability: what was written before must be durable, or be queued before the root.
    """
    # Sorted: zarr 3.1 finds the members of a group only if they follow each other.
    metadata: dict[str, Any] = {key: json.loads(nodes[key]) for key in sorted(nodes)}
    manifest = with_documents(manifest, metadata)
    counts = [0] * manifest.chains if counts is None else counts
    changed = as_shown(manifest, metadata, counts)
    if changed:
        store.write(
            {key: json.dumps(document, indent=2).encode() for key, document in changed.items()}
        )
    metadata |= changed
    attributes: dict[str, Any] = {layout.ATTRIBUTE: sealed_attribute(manifest)}
    if note := note_of(manifest, counts):
        attributes[layout.UNFINISHED] = note
    root = group_document("", manifest.zarr_format, attributes)
    if manifest.zarr_format == 3:
        document = json.loads(root[layout.NODE])
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {key.removesuffix(f"/{layout.NODE}"): doc for key, doc in metadata.items()},
        }
        store.write({layout.NODE: json.dumps(document).encode()})
        return manifest
    metadata |= {key: json.loads(value) for key, value in root.items()}
    consolidated = {"metadata": metadata, "zarr_consolidated_format": 1}
    store.write(
        {
            layout.CONSOLIDATED_V2: json.dumps(consolidated).encode(),
            layout.ATTRIBUTES_V2: root[layout.ATTRIBUTES_V2],
        }
    )
    store.write({layout.GROUP_V2: root[layout.GROUP_V2]})
    return manifest


def resize(store: Store, manifest: Manifest, contents: Contents, counts: Sequence[int]) -> Manifest:
    """Write the hierarchy for another number of draws, without chunks; return its manifest."""
    keys = _shortened(manifest, node_keys(manifest, contents), counts)
    keys |= _metadata(session_keys(manifest, contents))
    store.write(keys)
    return publish(store, manifest, _metadata(keys), counts)


def _shortened(
    manifest: Manifest, keys: Mapping[str, bytes], counts: Sequence[int]
) -> dict[str, bytes]:
    """Return the keys and values of nodes, with arrays as long as what all chains have sealed."""
    documents = {key: json.loads(value) for key, value in _metadata(keys).items()}
    changed = as_shown(manifest, documents, counts)
    return {**keys, **{key: json.dumps(doc, indent=2).encode() for key, doc in changed.items()}}


def _metadata(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in keys.items() if is_metadata(key)}


def _is_of_a_run(key: str) -> bool:
    """Return whether the creation of a run may have written a key; it writes no claims."""
    top, slash, _ = key.partition("/")
    if not slash:
        return key in (*DOCUMENTS, layout.CONSOLIDATED_V2)
    return top in layout.GROUPS and not key.startswith(layout.CLAIM)
