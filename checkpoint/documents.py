"""Checksums of metadata: of the root attribute, and of what counts in the document of a node.

They are of values, not of bytes, and of what this package wrote: zarr may write a document again,
and users may add attributes, arrays and groups of their own.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numcodecs.checksum32 import CRC32C

from checkpoint import layout
from checkpoint.arrays import UNITS
from checkpoint.errors import CheckpointError, DamagedStoreError, NotARunError
from checkpoint.json_object import parse_object
from checkpoint.manifest import Manifest
from checkpoint.stores import Store

__all__ = [
    "check_document",
    "check_no_remains",
    "checksum",
    "has_checksum",
    "parse",
    "read_attribute",
    "read_document",
    "root_attributes",
    "same_document",
    "sealed_attribute",
    "with_documents",
]

_OF_ZARR_3 = (
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "dimension_names",
)
_OF_ZARR_2 = (
    "zarr_format",
    "shape",
    "chunks",
    "dtype",
    "compressor",
    "fill_value",
    "order",
    "filters",
    "dimension_separator",
)
_KINDS = ("freeRV", "deterministic")
_CHECKSUM = "checksum"


def checksum(value: Any) -> int:
    """Return the CRC-32C of a JSON value in its canonical form.

    >>> checksum({"b": 1, "a": [2.5, None]}) == checksum({"a": [2.5, None], "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return int(CRC32C.checksum(text.encode()))


def sealed_attribute(manifest: Manifest) -> dict[str, Any]:
    """Return the attribute of the root that holds a manifest, with its checksum."""
    attribute = manifest.to_json()
    return {**attribute, _CHECKSUM: checksum(attribute)}


def root_attributes(store: Store) -> dict[str, Any] | None:
    """Return the attributes of the root group, or None if there is none.

    Raises
    ------
    NotARunError, DamagedStoreError
        If its document cannot be read; the second if a run lies below it.
    """
    try:
        if (data := store.read("zarr.json")) is not None:
            return dict(parse_object(data).get("attributes", {}))
        if store.has(".zgroup"):
            return parse_object(store.read(".zattrs") or b"{}")
    except CheckpointError:
        raise
    except (ValueError, TypeError) as error:
        check_no_remains(store, f"cannot be read ({error})")
        raise NotARunError(
            f"{store.name} has a root document that cannot be read ({error}). Nothing was changed. "
            "Restore it from a copy, or choose another path."
        ) from error
    return None


def check_no_remains(store: Store, what: str) -> None:
    """Hold that no run lies below a root that does not tell of one.

    Raises
    ------
    DamagedStoreError
        If one does: it has lost its root.
    """
    if store.has(f"{layout.LOG}/zarr.json"):
        key = "zarr.json"
    elif store.has(f"{layout.LOG}/.zarray"):
        key = ".zattrs" if store.has(".zgroup") else ".zgroup"
    else:
        return
    raise DamagedStoreError(
        f"{store.name}: {key}, the metadata of the root, {what}; a run lies below it. Nothing was "
        "changed. Restore that file from a copy."
    )


def read_attribute(store: Store, attribute: Any) -> Manifest:
    """Return the manifest that the attribute of the root holds, held against its checksum.

    Raises
    ------
    DamagedStoreError
        If it does not hold.
    FormatVersionError
        If it is of a newer format.
    """
    where = f"{store.name}: {'zarr.json' if store.has('zarr.json') else '.zattrs'}"
    if not isinstance(attribute, Mapping):
        raise _bad_attribute(where, f"is {attribute!r}, no JSON object")
    is_known = attribute.get("format_version") == layout.FORMAT_VERSION
    if is_known and _CHECKSUM in attribute:
        found = checksum({name: value for name, value in attribute.items() if name != _CHECKSUM})
        if found != (expected := attribute[_CHECKSUM]):
            raise _bad_attribute(where, f"fails its checksum ({found}, expected {expected})")
    try:
        return Manifest.from_json(attribute, where)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _bad_attribute(where, f"cannot be read ({error!r})") from error


def with_documents(manifest: Manifest, nodes: Mapping[str, Mapping[str, Any]]) -> Manifest:
    """Return the manifest with the checksums of the metadata documents below the root."""
    found = {
        key: checksum(essential)
        for key, document in nodes.items()
        if (essential := _essential(key, document, manifest.lengths))
    }
    return replace(manifest, documents=found)


def read_document(store: Store, manifest: Manifest, key: str) -> dict[str, Any]:
    """Return the metadata document of a node, held against its checksum.

    Raises
    ------
    DamagedStoreError
        If it is missing, or not what was written.
    """
    document = parse(store, key, store.read(key))
    check_document(store, manifest, key, document)
    return document


def parse(store: Store, key: str, data: bytes | None) -> dict[str, Any]:
    """Return what a metadata document holds; attributes of format 2 may be missing.

    Raises
    ------
    DamagedStoreError
        If it is no JSON object.
    """
    if data is None and key.endswith("/.zattrs"):
        return {}
    try:
        return parse_object(data)
    except ValueError as error:
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is missing or damaged ({error}). "
            "Restore that file from a copy."
        ) from error


def check_document(store: Store, manifest: Manifest, key: str, document: Mapping[str, Any]) -> None:
    """Hold a metadata document against its checksum, if there is one.

    Raises
    ------
    DamagedStoreError
        If it does not hold.
    """
    if not same_document(manifest, key, document):
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is not what was written, as its checksum tells. "
            "Restore that file from a copy."
        )


def same_document(manifest: Manifest, key: str, document: Any) -> bool:
    """Return whether what counts in a metadata document is as it was written, as far as known."""
    expected = manifest.documents.get(key)
    if expected is None:
        return True
    if not isinstance(document, Mapping):
        return False
    return checksum(_essential(key, document, manifest.lengths)) == expected


def has_checksum(attribute: Any) -> bool:
    """Return whether the attribute of the root has a checksum."""
    return isinstance(attribute, Mapping) and _CHECKSUM in attribute


def _bad_attribute(where: str, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{where}: the attribute {layout.ATTRIBUTE} {what}. Nothing was changed. "
        "Restore that file from a copy."
    )


def _essential(key: str, document: Mapping[str, Any], lengths: Mapping[str, int]) -> dict[str, Any]:
    """Return the part of a metadata document that tells how to read its node."""
    path, _, name = key.rpartition("/")
    if name == ".zattrs":
        found = {**_attributes(document), "dims": document.get("_ARRAY_DIMENSIONS")}
    elif name == "zarr.json":
        found = {field: document.get(field) for field in _OF_ZARR_3}
        found["attributes"] = _attributes(document.get("attributes", {}))
    else:
        found = {field: document.get(field) for field in _OF_ZARR_2}
    shape = found.get("shape")
    if path in lengths and isinstance(shape, list) and lengths[path] < len(shape):
        found["shape"] = [None if i == lengths[path] else n for i, n in enumerate(shape)]
    return dict(_plain(found))


def _attributes(attributes: Any) -> dict[str, Any]:
    """Return the attributes that this package writes; others, of the same name too, are users'."""
    if not isinstance(attributes, Mapping):
        return {}
    found = {}
    if attributes.get("kind") in _KINDS:
        found["kind"] = attributes["kind"]
    if attributes.get("units") in UNITS:
        found |= {name: attributes.get(name) for name in ("units", "calendar")}
    return found


def _plain(value: Any) -> Any:
    """Return a JSON value as all programs write it: without members that say nothing.

    An object that has only a name left is that name, as the extensions of format 3 may be.
    """
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _plain(item) for name, item in value.items()}
    plain = {name: item for name, item in plain.items() if item not in (None, [], {})}
    return plain["name"] if plain.keys() == {"name"} else plain
