"""Show Zarr readers of an unfinished run the draws that all chains have, and a note.

Arrays of draws are only as long as the draws that every chain has sealed. In longer arrays the
missing draws would read as values, as integers and booleans have no value for "missing". An
attribute of the root and of the groups notes this. Arrays and note are updated as the run grows;
the note is removed when the run is finished.

The order must hold: first the documents of nodes, then the root, from which readers take the
lengths. If the process is killed in between, the copies of the documents in the root still agree
with each other; the next session, or the next call that finds the run complete, updates them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.json_object import parse_object
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.documents import root_attributes
from checkpoint.stores import Store

__all__ = ["as_shown", "is_marked", "note_of", "show"]

Documents = Mapping[str, Mapping[str, Any]]


def is_marked(store: Store) -> bool:
    """Return whether the root says that the run is unfinished."""
    return layout.UNFINISHED in (root_attributes(store) or {})


def note_of(manifest: Manifest, counts: Sequence[int], warmup: bool | None = None) -> str:
    """Return the text of the attribute, for one phase or both; empty if all draws are shown.

    Parameters
    ----------
    manifest : Manifest
    counts : sequence of int
        Sealed draws of each chain, warm-up included.
    warmup : bool, optional
        The phase of a group; both unless given.
    """
    total = {None: manifest.total, True: manifest.tune, False: manifest.draws}[warmup]
    n = min(counts) if warmup is None else manifest.shown(counts)[0 if warmup else 1]
    if not manifest.grows or n >= total:
        return ""
    kind = {None: "draws with warm-up", True: "draws of warm-up", False: "draws"}[warmup]
    return (
        f"Unfinished: {n} of {total} {kind} are in these arrays, those that every chain has. "
        "More may be recorded: checkpoint.open(store) shows all of it."
    )


def as_shown(manifest: Manifest, documents: Documents, counts: Sequence[int]) -> dict[str, Any]:
    """Return the documents that change for the given counts of sealed draws.

    Parameters
    ----------
    manifest : Manifest
    documents : mapping of str to mapping
        By key; only those of arrays of draws, and of their groups, can change.
    counts : sequence of int
        Sealed draws of each chain, warm-up included.
    """
    changed = {}
    for key, document in documents.items():
        path, _, name = key.rpartition("/")
        if (warmup := _phase_of(manifest, path)) is not None:
            found = _noted(document, name, note_of(manifest, counts, warmup))
        elif path in manifest.lengths and "shape" in document:
            found = _cut(document, manifest.lengths[path], manifest.length(path, counts))
        else:
            continue
        if found != document:
            changed[key] = found
    return changed


def show(store: Store, manifest: Manifest, counts: Sequence[int]) -> None:
    """Set the length of arrays to what all chains have sealed; note it while draws are missing.

    Notes
    -----
    Durability: on return it is durable. Chunks are not touched.
    """
    if not manifest.grows:
        return
    root = _read(store, _root_keys(manifest))
    if not _is_of(manifest, root):
        return  # another run is here now; sealing, or the end of the session, reports it
    changed = as_shown(manifest, _read(store, _keys(manifest)), counts)
    if changed:
        store.write(
            {key: json.dumps(document, indent=2).encode() for key, document in changed.items()}
        )
    for key, document in root.items():
        found = _root_as_shown(manifest, key, document, counts)
        if found != document:
            store.write({key: json.dumps(found).encode()})


def _keys(manifest: Manifest) -> list[str]:
    arrays, groups = (
        (layout.NODE, layout.NODE)
        if manifest.zarr_format == 3
        else (layout.ARRAY_V2, layout.ATTRIBUTES_V2)
    )
    names = {path.partition("/")[0] for path in manifest.lengths} - {layout.STATE}
    keys = [f"{path}/{arrays}" for path in manifest.lengths]
    return keys + [f"{name}/{groups}" for name in sorted(names)]


def _root_keys(manifest: Manifest) -> list[str]:
    """Return the keys of the root's documents; the copies come before the root's attributes."""
    return (
        [layout.NODE]
        if manifest.zarr_format == 3
        else [layout.CONSOLIDATED_V2, layout.ATTRIBUTES_V2]
    )


def _is_of(manifest: Manifest, root: Documents) -> bool:
    """Return whether the root belongs to the run of a manifest."""
    attributes = root.get(layout.ATTRIBUTES_V2) or root.get(layout.NODE, {}).get("attributes", {})
    found = attributes.get(layout.ATTRIBUTE)
    return isinstance(found, Mapping) and found.get("run_id") == manifest.run_id


def _read(store: Store, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the documents that can be read; `verify` reports the others."""
    found = {}
    for key in keys:
        try:
            found[key] = parse_object(store.read(key))
        except (DamagedStoreError, ValueError):
            continue
    return found


def _root_as_shown(
    manifest: Manifest, key: str, document: Mapping[str, Any], counts: Sequence[int]
) -> dict[str, Any]:
    note = note_of(manifest, counts)
    if key == layout.ATTRIBUTES_V2:
        return _noted(document, key, note)
    if key == layout.NODE:
        noted = _noted(document, key, note)
        if isinstance(inline := noted.get("consolidated_metadata"), dict):
            copies = {f"{path}/{key}": copy for path, copy in inline.get("metadata", {}).items()}
            changed = as_shown(manifest, copies, counts)
            metadata = {k.removesuffix(f"/{key}"): changed.get(k, c) for k, c in copies.items()}
            noted["consolidated_metadata"] = {**inline, "metadata": metadata}
        return noted
    copies = dict(document.get("metadata", {}))
    copies |= as_shown(manifest, copies, counts)
    if layout.ATTRIBUTES_V2 in copies:
        copies[layout.ATTRIBUTES_V2] = _noted(
            copies[layout.ATTRIBUTES_V2], layout.ATTRIBUTES_V2, note
        )
    return {**document, "metadata": copies}


def _phase_of(manifest: Manifest, path: str) -> bool | None:
    """Return whether a group of draws is of warm-up; None if the path is no such group."""
    if "/" in path or f"{path}/draw" not in manifest.lengths:
        return None
    return path.startswith(layout.WARMUP)


def _noted(document: Mapping[str, Any], name: str, note: str) -> dict[str, Any]:
    """Return the document of a group with the note, or without one if it is empty."""
    if name == layout.GROUP_V2:
        return dict(document)
    attributes = dict(document if name == layout.ATTRIBUTES_V2 else document.get("attributes", {}))
    attributes.pop(layout.UNFINISHED, None)
    if note:
        attributes[layout.UNFINISHED] = note
    return attributes if name == layout.ATTRIBUTES_V2 else {**document, "attributes": attributes}


def _cut(document: Mapping[str, Any], axis: int, length: int) -> dict[str, Any]:
    shape = [length if i == axis else n for i, n in enumerate(document["shape"])]
    return {**document, "shape": shape}
