"""Read metadata, and check it: the root attribute, and the document of each node.

Checksums are of values, not of bytes, and only of what this package wrote: zarr may rewrite a
document, and users may add attributes, arrays and groups of their own.
"""

from collections.abc import Mapping
from typing import Any

from checkpoint.errors import CheckpointError, DamagedStoreError, NotARunError
from checkpoint.format import layout
from checkpoint.format.checksums import CHECKSUM, checksum, same_document
from checkpoint.format.json_object import parse_object
from checkpoint.format.manifest import Manifest
from checkpoint.stores import Store

__all__ = [
    "check_document",
    "check_no_remains",
    "parse",
    "read_attribute",
    "read_document",
    "root_attributes",
]


def root_attributes(store: Store) -> dict[str, Any] | None:
    """Return the attributes of the root group, or None if there is none.

    Raises
    ------
    NotARunError, DamagedStoreError
        If its document cannot be read; the second if a run lies below it.
    """
    try:
        if (data := store.read(layout.NODE)) is not None:
            return dict(parse_object(data).get("attributes", {}))
        if store.has(layout.GROUP_V2):
            return parse_object(store.read(layout.ATTRIBUTES_V2) or b"{}")
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
    """Check that no run lies below a root that does not describe one.

    Raises
    ------
    DamagedStoreError
        If one does: it has lost its root.
    """
    if store.has(layout.member(layout.LOG, layout.NODE)):
        key = layout.NODE
    elif store.has(layout.member(layout.LOG, layout.ARRAY_V2)):
        key = layout.ATTRIBUTES_V2 if store.has(layout.GROUP_V2) else layout.GROUP_V2
    else:
        return
    raise DamagedStoreError(
        f"{store.name}: {key}, the metadata of the root, {what}; there is a run below it. Nothing "
        "was changed. Restore that file from a copy."
    )


def read_attribute(store: Store, attribute: Any) -> Manifest:
    """Return the manifest in the attribute of the root, after a check of its checksum.

    Raises
    ------
    DamagedStoreError
        If it fails its checksum, or cannot be read.
    FormatVersionError
        If it is of a newer format.
    """
    where = f"{store.name}: {layout.NODE if store.has(layout.NODE) else layout.ATTRIBUTES_V2}"
    if not isinstance(attribute, Mapping):
        raise _bad_attribute(where, f"is {attribute!r}, no JSON object")
    is_known = attribute.get("format_version") == layout.FORMAT_VERSION
    if is_known and CHECKSUM in attribute:
        found = checksum({name: value for name, value in attribute.items() if name != CHECKSUM})
        if found != (expected := attribute[CHECKSUM]):
            raise _bad_attribute(where, f"fails its checksum ({found}, expected {expected})")
    try:
        return Manifest.from_json(attribute, where)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _bad_attribute(where, f"cannot be read ({error!r})") from error


def read_document(store: Store, manifest: Manifest, key: str) -> dict[str, Any]:
    """Return the metadata document of a node, after a check of its checksum.

    Raises
    ------
    DamagedStoreError
        If it is missing, or not what was written.
    """
    document = parse(store, key, store.read(key))
    check_document(store, manifest, key, document)
    return document


def parse(store: Store, key: str, data: bytes | None) -> dict[str, Any]:
    """Parse a metadata document; that of attributes in format 2 may be missing.

    Raises
    ------
    DamagedStoreError
        If it is no JSON object.
    """
    if data is None and key.endswith(f"/{layout.ATTRIBUTES_V2}"):
        return {}
    try:
        return parse_object(data)
    except ValueError as error:
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is missing or damaged ({error}). "
            "Restore that file from a copy."
        ) from error


def check_document(store: Store, manifest: Manifest, key: str, document: Mapping[str, Any]) -> None:
    """Check a metadata document against its checksum, if there is one.

    Raises
    ------
    DamagedStoreError
        If it fails it.
    """
    if not same_document(manifest, key, document):
        raise DamagedStoreError(
            f"{store.name}: the metadata {key} is not what was written: it fails its checksum. "
            "Restore that file from a copy."
        )


def _bad_attribute(where: str, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{where}: the attribute {layout.ATTRIBUTE} {what}. Nothing was changed. "
        "Restore that file from a copy."
    )
