"""What somebody may do to a store for the sake of its readers: xarray's, and a terminal."""

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from torture.attacks import (
    BOMBS,
    Outside,
    attack,
    bomb,
    edit,
    edit_manifest,
    rename_variable,
)

__all__ = ["EVIL", "harmful_array"]

EVIL = "\x1b[2J\x1b]0;owned\x07\u202elaw\u200e\x9b31m"
"""Clears a screen, sets a title, turns the order of letters round."""

FOLDERS = ("posterior/.hid", "posterior/x", "posterior/.hid/.h", ".hid/x", "prior/x")

OBJECTS = {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}}

HARMFUL: dict[str, dict[str, Any]] = {
    "a pickle as compressor": OBJECTS,
    "a pickle behind text": OBJECTS
    | {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None},
    "a pickle as filter": {"filters": [{"id": "pickle"}], "compressor": None},
    "objects": OBJECTS | {"filters": [{"id": "pickle"}], "compressor": None},
    "astype": {"filters": [
        {"id": "astype", "encode_dtype": "<f8", "decode_dtype": "S20000000"}]},
    "vlen-array": {"dtype": "|O", "filters": [{"id": "vlen-array", "dtype": "<i4"}]},
    "a shape of no end": {"shape": [1 << 20] * 3, "compressor": None, "filters": None},
    "chunks of no end": {"chunks": [1 << 20] * 3, "compressor": None, "filters": None},
}  # fmt: skip


def harmful_array(store: Path, folder: str, outside: Outside, fields: dict[str, Any]) -> None:
    """Make an array of Zarr format 2 whose only chunk is code."""
    array = store / folder
    if folder != "posterior/x":
        shutil.copytree(store / "posterior/x", array)
    edit(array / ".zarray", lambda document: document.update(fields))
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(outside.code)


for kind, fields in HARMFUL.items():
    for folder in FOLDERS:

        @attack("tree2", name=f"{kind} in {folder}")
        def an_array(
            store: Path, outside: Outside, folder: str = folder, fields: dict[str, Any] = fields
        ) -> None:
            (store / ".zmetadata").unlink()
            harmful_array(store, folder, outside, fields)

    @attack("tree2", name=f"{kind} in the copies alone")
    def a_copy(store: Path, outside: Outside, fields: dict[str, Any] = fields) -> None:
        def change(document: dict[str, Any]) -> None:
            document["metadata"]["posterior/x/.zarray"].update(fields)

        edit(store / ".zmetadata", change)
        for chunk in (store / "posterior/x").glob("[0-9]*"):
            chunk.write_bytes(outside.code)


CODECS_V3: list[list[Any]] = [
    [{"name": "bytes"}, {"name": "numcodecs.pickle"}],
    [{"name": "numcodecs.pickle"}],
    [{"name": "numcodecs.astype", "configuration": {
        "encode_dtype": "<f8", "decode_dtype": "S20000000"}}, {"name": "bytes"}],
    [{"name": "vlen-array", "configuration": {"dtype": "<i4"}}],
    [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1], "index_codecs": [],
      "codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}}],
]  # fmt: skip

for codecs in CODECS_V3:
    for folder in ("posterior/.hid", "posterior/x"):

        @attack("tree3", name=f"{json.dumps(codecs):.60} in {folder}")
        def codecs_of_an_array(
            store: Path, outside: Outside, folder: str = folder, codecs: list[Any] = codecs
        ) -> None:
            if folder != "posterior/x":
                shutil.copytree(store / "posterior/x", store / folder)
            edit(store / folder / "zarr.json", lambda document: document.update(codecs=codecs))
            for chunk in (path for path in (store / folder / "c").rglob("*") if path.is_file()):
                chunk.write_bytes(outside.code)


for kind in BOMBS:

    @attack("tree2", name=f"a bomb of {kind}")
    def a_bomb(store: Path, outside: Outside, kind: str = kind) -> None:
        settings, data = bomb(kind)
        settings = {"id": kind.split()[0], **settings}
        for document in store.glob("*/*/.zarray"):
            edit(document, lambda found: found.update(compressor=settings, filters=None))
            for chunk in document.parent.glob("[0-9]*"):
                chunk.write_bytes(data)


for name, settings in (
    ("numcodecs.astype", {"encode_dtype": "S1", "decode_dtype": "S20000000"}),
    ("numcodecs.vlen-array", {"dtype": "<i4"}),
    ("numcodecs.categorize", {"labels": ["a"] * 10, "dtype": "U100000"}),
    ("numcodecs.packbits", {}),
    ("Numcodecs.Pickle", {}),
):

    @attack("v3", "v2", name=f"{name} as compressor, with settings")
    def a_compressor(
        store: Path, outside: Outside, name: str = name, settings: dict[str, Any] = settings
    ) -> None:
        compressor = {"name": name, "configuration": settings}
        edit_manifest(store, lambda manifest: manifest.update(compressor=compressor))


# A person's terminal.


def _in_text(field: str) -> Any:
    def change(manifest: dict[str, Any]) -> None:
        found = manifest.get(field, {"posterior/x": 1})
        manifest[field] = dict.fromkeys(found, EVIL) if isinstance(found, dict) else EVIL

    return lambda store, outside: edit_manifest(store, change)


for field in ("seed", "origin", "model", "settings", "environment", "point_paths", "documents"):
    attack("v3", "v2", name=f"escapes in {field}")(_in_text(field))


@attack("v3", "v2")
def a_name_with_escapes(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda manifest: rename_variable(manifest, EVIL))


@attack("v3", "v2")
def a_document_with_escapes(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda manifest: manifest.update(documents={EVIL: 1}))


@attack("v3", "v2")
def a_dtype_with_escapes(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda manifest: manifest["columns"][0].__setitem__(1, EVIL))


@attack("v3")
def a_holder_with_escapes(store: Path, outside: Outside) -> None:
    holder = {"host": EVIL, "pid": 1, "since": 0.0, "machine": EVIL, "started": "", "token": ""}
    (store / "_sampling_state/log/.holder").write_text(json.dumps(holder))


@attack("tree2", "tree3")
def an_array_with_escapes(store: Path, outside: Outside) -> None:
    shutil.copytree(store / "posterior/x", store / "posterior" / EVIL)
    for document in (store / "posterior" / EVIL).glob("*zarr*"):
        edit(document, lambda found: found.update(dtype=EVIL, data_type=EVIL))


# Names of temporary files.


@attack("v3", "v2")
def temporary_files_that_are_links(store: Path, outside: Outside) -> None:
    for folder in ("", "posterior/x/", "_sampling_state/log/c/0/"):
        for name in ("zarr.json", "c.0.0", "000000000020"):
            link = store / f"{folder}.tmp-{secrets.token_hex(8)}-{name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(outside.folder / "file")


@attack("v3")
def a_note_and_a_lock_that_are_links(store: Path, outside: Outside) -> None:
    for name in (".holder", ".lock"):
        path = store / "_sampling_state/log" / name
        path.unlink(missing_ok=True)
        path.symlink_to(outside.folder / "file")


# What xarray follows.


@attack("v3", "v2")
def attributes_that_change_values(store: Path, outside: Outside) -> None:
    added = {"scale_factor": 0, "add_offset": 1, "_FillValue": 0.0}
    for document in [*store.glob("*/*/.zattrs"), *store.glob("*/*/zarr.json")]:
        edit(document, lambda found: found.get("attributes", found).update(added))


@attack("v3", "v2")
def copies_that_are_of_others(store: Path, outside: Outside) -> None:
    path = store / ("zarr.json" if (store / "zarr.json").exists() else ".zmetadata")
    text = path.read_text().replace('"posterior/x', '"posterior/y')
    path.write_text(text.replace('["posterior/y"', '["posterior/x"'))
