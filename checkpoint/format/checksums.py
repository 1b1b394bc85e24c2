"""Checksums of metadata documents, over the members that affect reading, not over the bytes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numcodecs.checksum32 import CRC32C

from checkpoint.format import layout
from checkpoint.format.dates import of_dates
from checkpoint.format.manifest import Manifest

__all__ = [
    "CHECKSUM",
    "checksum",
    "has_checksum",
    "misleading_attributes",
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

_APPLIED = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "dtype")
"""Attributes by which readers such as xarray change the values that they show. This package writes
none of them, except `dtype` for time spans."""

_KINDS = ("freeRV", "deterministic")

CHECKSUM = "checksum"


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
    return {**attribute, CHECKSUM: checksum(attribute)}


def with_documents(manifest: Manifest, nodes: Mapping[str, Mapping[str, Any]]) -> Manifest:
    """Return the manifest with the checksums of the metadata documents below the root."""
    found = {
        key: checksum(essential)
        for key, document in nodes.items()
        if (essential := _essential(key, document, manifest.lengths))
    }
    return replace(manifest, documents=found)


def same_document(manifest: Manifest, key: str, document: Any) -> bool:
    """Return whether a metadata document has its recorded checksum; true if none is recorded."""
    expected = manifest.documents.get(key)
    if expected is None:
        return True
    if not isinstance(document, Mapping):
        return False
    return checksum(_essential(key, document, manifest.lengths)) == expected


def misleading_attributes(key: str, document: Any) -> list[str]:
    """Return attributes of a node that make readers show other values than it holds.

    They are not part of its checksum: this package ignores attributes that others have added.

    >>> misleading_attributes("posterior/mu/.zattrs", {"kind": "freeRV", "scale_factor": 0})
    ['scale_factor']
    """
    if not isinstance(document, Mapping):
        return []
    attributes = document if key.endswith(layout.ATTRIBUTES_V2) else document.get("attributes", {})
    if not isinstance(attributes, Mapping):
        return ["attributes"]
    dates = of_dates(attributes)  # which count in the checksum
    found = [name for name in _APPLIED if name in attributes and name not in dates]
    units = attributes.get("units")
    if isinstance(units, str) and " since " in units and not dates:
        found.append("units")
    return found


def has_checksum(attribute: Any) -> bool:
    """Return whether the attribute of the root has a checksum."""
    return isinstance(attribute, Mapping) and CHECKSUM in attribute


def _essential(key: str, document: Mapping[str, Any], lengths: Mapping[str, int]) -> dict[str, Any]:
    """Return the part of a metadata document that determines how its node is read."""
    path, _, name = key.rpartition("/")
    if name == layout.ATTRIBUTES_V2:
        found = {**_attributes(document), "dims": document.get("_ARRAY_DIMENSIONS")}
    elif name == layout.NODE:
        found = {field: document.get(field) for field in _OF_ZARR_3}
        found["attributes"] = _attributes(document.get("attributes", {}))
    else:
        found = {field: document.get(field) for field in _OF_ZARR_2}
    shape = found.get("shape")
    if path in lengths and isinstance(shape, list) and lengths[path] < len(shape):
        found["shape"] = [None if i == lengths[path] else n for i, n in enumerate(shape)]
    return dict(_plain(found))


def _attributes(attributes: Any) -> dict[str, Any]:
    """Return the attributes that this package writes; all others belong to users."""
    if not isinstance(attributes, Mapping):
        return {}
    found = {}
    if attributes.get("kind") in _KINDS:
        found["kind"] = attributes["kind"]
    return found | of_dates(attributes)


def _plain(value: Any) -> Any:
    """Return a JSON value in a form common to all programs, without null and empty members.

    An object that has only a name left becomes that name: format 3 allows both for extensions.
    """
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _plain(item) for name, item in value.items()}
    plain = {name: item for name, item in plain.items() if item not in (None, [], {})}
    return plain["name"] if plain.keys() == {"name"} else plain
