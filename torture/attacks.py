"""What somebody may do to a store before he gives it to others: a function for each attack."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numcodecs.checksum32 import CRC32C

from checkpoint.format import log_entry
from checkpoint.format.compressors import default_compressor
from checkpoint.format.rows import Column
from checkpoint.stores.zip.records import Entry, pack_directory, pack_local

__all__ = ["ATTACKS", "Attack", "Outside"]

POSIX_PATHS = (
    "/tmp/hostile", "..", "../outside/file", "posterior/../../outside/file", "posterior/x\0y",
    "\ud800", "", "n" * 5000, "posterior/" + "d/" * 3000 + "x",
)  # fmt: skip
ELSEWHERE = ("..\\outside\\file", "C:\\outside", "C:/outside", ".", "posterior//x")
"""Paths that lead out on other systems, or are another name of a place inside."""

NO_NUMBERS = (-1, 0, 1.5, float("nan"), True, "5", None, [], 10**18, 10**40)

NO_DTYPES = ("|O", "<M8[ns]", "f8,f8", "(1000000000,)f8", "V1000000000", "U100000000", 5, None)

BOMB_NBYTES = 1 << 30


@dataclass(frozen=True)
class Outside:
    """What lies beside a store, and must not change.

    Attributes
    ----------
    folder : Path
        With a file `file`.
    sentinel : Path
        A file that exists once a pickle of `code` was loaded.
    """

    folder: Path
    sentinel: Path

    @property
    def code(self) -> bytes:
        """A pickle that makes the sentinel."""
        return pickle.dumps(_Sentinel(str(self.sentinel)))


class _Sentinel:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@dataclass(frozen=True)
class Attack:
    """Something that is done to a copy of a store.

    Attributes
    ----------
    name : str
    base : str
        Which store: "v3", "v2" (directories), "zip", or "pymc" (of ZarrTrace).
    change : callable
        Takes the path of the copy, and what lies beside it.
    """

    name: str
    base: str
    change: Callable[[Path, Outside], None]


ATTACKS: list[Attack] = []


def attack(
    *bases: str, name: str = ""
) -> Callable[[Callable[[Path, Outside], None]], Callable[[Path, Outside], None]]:
    """Make a function an attack on each of the bases."""

    def add(change: Callable[[Path, Outside], None]) -> Callable[[Path, Outside], None]:
        for base in bases:
            ATTACKS.append(Attack(name or change.__name__, base, change))
        return change

    return add


# Documents.


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    changed = change(document)
    path.write_text(json.dumps(document if changed is None else changed))


def edit_manifest(store: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    def of_root(document: dict[str, Any]) -> None:
        change(document.get("attributes", document)["checkpoint"])

    edit(store / ("zarr.json" if (store / "zarr.json").exists() else ".zattrs"), of_root)


def rename_variable(manifest: dict[str, Any], name: str) -> None:
    """Give `x` another name, wherever the manifest has it."""
    path = f"posterior/{name}"
    for column in manifest["columns"]:
        column[0] = path if column[0] == "posterior/x" else column[0]
    points = manifest["point_paths"]
    manifest["point_paths"] = {
        name if key == "x" else key: path if value == "posterior/x" else value
        for key, value in points.items()
    }
    manifest["variables"] = [name if v == "x" else v for v in manifest["variables"]]


def _place_path(place: str, path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        match place:
            case "a column":
                manifest["columns"][0][0] = path
            case "another column":
                manifest["columns"].append([path, "<f8", [], False])
            case "the column of a point":
                manifest["point_paths"]["x"] = path
            case "a name in a point":
                manifest["point_paths"][path] = manifest["point_paths"].pop("x")
            case "a constant":
                manifest["schemas"][0]["constants"][path] = None
                manifest["schemas"][0]["orders"].append("C")
            case "a field":
                manifest["schemas"][0]["fields"][0]["path"] = path
            case "a variable":
                manifest["variables"].append(path)
            case "a name everywhere":
                rename_variable(manifest, path)

    return change


PLACES = (
    "a column", "another column", "the column of a point", "a name in a point", "a constant",
    "a field", "a variable", "a name everywhere",
)  # fmt: skip


def _paths() -> Iterator[Attack]:
    for place in PLACES:
        for path in (*POSIX_PATHS, *ELSEWHERE):
            change = _place_path(place, path)
            name = f"{path!r:.40} as {place}"
            yield Attack(name, "v3", lambda s, o, change=change: edit_manifest(s, change))


ATTACKS += _paths()


def _set(name: str, value: Any) -> Callable[[Path, Outside], None]:
    return lambda store, outside: edit_manifest(store, lambda m: m.__setitem__(name, value))


COUNTS = ("chains", "tune", "draws", "warmup_chunk", "chunk", "run_id", "zarr_format")
ATTACKS += [
    Attack(f"{value!r:.20} as {name}", "v3", _set(name, value))
    for name in COUNTS
    for value in NO_NUMBERS
]
ATTACKS += [
    Attack(f"{value!r:.20} as {name}", "v3", _set(name, value))
    for name in ("columns", "schemas", "point_paths", "variables", "rngs", "model", "compressor",
                 "n_imported", "start_logp", "seed", "settings", "environment", "origin")
    for value in (5, None if name != "compressor" else [], [[]], {"a": 5}, "text", [None])
]  # fmt: skip


def _column(index: int, value: Any) -> Callable[[Path, Outside], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["columns"][0][index] = value

    return lambda store, outside: edit_manifest(store, change)


ATTACKS += [Attack(f"{d!r} as dtype of a column", "v3", _column(1, d)) for d in NO_DTYPES]
ATTACKS += [
    Attack(f"{shape!r:.40} as shape of a column", "v3", _column(2, shape))
    for shape in ([10**18], [2**31, 2**31], [-1], [1.5], ["2"], "2", [1] * 100, [0, 10**18], None)
]


@attack("v3", "v2")
def the_same_column_twice(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda m: m["columns"].append(m["columns"][0]))


@attack("v3", "v2")
def a_root_of_deep_json(store: Path, outside: Outside) -> None:
    for name in ("zarr.json", ".zattrs"):
        if (store / name).exists():
            (store / name).write_text("[" * 10**6)


@attack("v3")
def a_deep_attribute(store: Path, outside: Outside) -> None:
    text = (store / "zarr.json").read_text()
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    (store / "zarr.json").write_text(text.replace('"run_id":', f'"deep": {deep}, "run_id":', 1))


@attack("v3")
def an_integer_of_many_digits(store: Path, outside: Outside) -> None:
    text = (store / "zarr.json").read_text()
    (store / "zarr.json").write_text(
        text.replace('"run_id":', '"many": ' + "9" * 10**5 + ', "run_id":', 1)
    )


@attack("v3", "v2")
def an_array_of_deep_json(store: Path, outside: Outside) -> None:
    for path in store.rglob("observed_data/y/*"):
        if path.name in ("zarr.json", ".zarray"):
            path.write_text("[" * 10**6)


def _array_document(store: Path, path: str) -> Path:
    name = "zarr.json" if (store / "zarr.json").exists() else ".zarray"
    return store / path / name


def _array_field(path: str, key: str, value: Any) -> Callable[[Path, Outside], None]:
    def change(document: dict[str, Any]) -> None:
        if key == "chunks" and "chunk_grid" in document:
            document["chunk_grid"]["configuration"]["chunk_shape"] = value
        elif key == "dtype" and "data_type" in document:
            document["data_type"] = value
        else:
            document[key] = value

    return lambda store, outside: edit(_array_document(store, path), change)


ARRAYS = ("observed_data/y", "_sampling_state/initial_point/x", "_sampling_state/sampling_time",
          "posterior/site")  # fmt: skip
ATTACKS += [
    Attack(f"{path} of {key} {value!r:.40}", base, _array_field(path, key, value))
    for base in ("v3", "v2")
    for path in ARRAYS
    for key, value in [
        ("shape", [10**18]), ("shape", [0, 10**18]), ("shape", [-1]), ("shape", "2"),
        ("shape", None), ("chunks", [10**18]), ("chunks", [0]), ("dtype", "|O"),
        ("dtype", "f8,f8"), ("dtype", {"a": 5}),
    ]
]  # fmt: skip
ATTACKS += [
    Attack(f"dimension {name!r:.40}", "v3", _array_field("posterior/x", "dimension_names", name))
    for name in (
        None, 5, [5], ["chain", "draw", "../../outside/file"], ["chain", "draw", "/tmp/hostile"],
        ["chain", "draw", "n" * 5000], ["chain", "draw", "\0"], ["chain"], ["chain", "draw", "x"],
    )
]  # fmt: skip


# Code.


@attack("v3", "v2")
def pickles_in_attributes(store: Path, outside: Outside) -> None:
    text = outside.code.decode("latin1")
    forged = {"pickle": text, "py/reduce": text}
    for path in [*store.rglob("zarr.json"), *store.rglob(".zattrs")]:
        edit(path, lambda d: d.get("attributes", d).update(forged))


@attack("v3", "v2")
def every_file_but_documents_is_a_pickle(store: Path, outside: Outside) -> None:
    for path in store.rglob("*"):
        if path.is_file() and not path.name.startswith((".z", "zarr.json")):
            path.write_bytes(outside.code)


@attack("v3", "v2")
def chunks_are_pickles_with_checksums(store: Path, outside: Outside) -> None:
    for path in store.rglob("c.*"):
        path.write_bytes(CRC32C(location="end").encode(numcodecs.Zstd().encode(outside.code)))
    for path in store.glob("posterior/x/[0-9]*"):
        path.write_bytes(numcodecs.Zstd().encode(outside.code))


for codec in ("pickle", "numcodecs.pickle", "json2", "msgpack2", "vlen-utf8", "no_such_codec", ""):

    @attack("v3", "v2", name=f"{codec!r} as compressor")
    def a_codec(store: Path, outside: Outside, codec: str = codec) -> None:
        for path in [*store.glob("posterior/x/c.*"), *store.glob("posterior/x/[0-9]*")]:
            data = outside.code
            path.write_bytes(CRC32C(location="end").encode(data) if path.name[0] == "c" else data)
        settings = {"name": codec, "configuration": {"id": "pickle", "protocol": 5}}
        edit_manifest(store, lambda m: m.update(compressor=settings))


@attack("v2")
def objects_and_filters_of_pickles(store: Path, outside: Outside) -> None:
    for array in ("posterior/x", "observed_data/y", "posterior/site"):
        edit(store / array / ".zarray", lambda d: d.update(dtype="|O", filters=[{"id": "pickle"}]))
        for path in (store / array).glob("[0-9]*"):
            path.write_bytes(numcodecs.Zstd().encode(outside.code))


@attack("v3")
def a_step_method_that_is_a_pickle(store: Path, outside: Outside) -> None:
    import base64

    text = base64.b64encode(outside.code).decode()

    def change(manifest: dict[str, Any]) -> None:
        for schema in manifest["schemas"]:
            schema.update(
                is_pickled=True,
                fields=[],
                orders=[],
                constants={"initial pickle": json.dumps(text)},
            )

    edit_manifest(store, change)


@attack("v3")
def fields_that_are_classes(store: Path, outside: Outside) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["schemas"][0]["fields"][0]["path"] = "__class__.__init__"

    edit_manifest(store, change)


@attack("v3")
def a_kind_of_field_that_is_none(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda m: m["schemas"][0]["fields"][0].update(kind="eval"))


NO_TEXTS = (
    '{"$object":["os.system",{"command":"touch hostile"}]}',
    '{"$exception":["SystemExit","0"]}',
    '{"$enum":["os","system"]}',
    '{"$array":["|O",[1],""]}',
    '{"$array":["<f8",[1000000000000000000],""]}',
    '{"$dict":[[[],1]]}',
    "[" * 100_000,
    "9" * 10**5,
    "not json",
)

for text in NO_TEXTS:

    @attack("v3", name=f"plain text {text:.40}")
    def a_plain_text(store: Path, outside: Outside, text: str = text) -> None:
        def change(manifest: dict[str, Any]) -> None:
            constants = manifest["schemas"][0]["constants"]
            constants[next(path for path, value in constants.items() if value is not None)] = text
            manifest["rngs"][1] = {"state": text, "seed_sequence": text}

        edit_manifest(store, change)


def _generator(state: dict[str, Any], pool_size: int = 4) -> Callable[[Path, Outside], None]:
    seed = {"entropy": 5, "spawn_key": {"$tuple": []}, "pool_size": pool_size}
    seed["n_children_spawned"] = 0

    def change(manifest: dict[str, Any]) -> None:
        manifest["rngs"][0] = {"state": json.dumps(state), "seed_sequence": json.dumps(seed)}

    return lambda store, outside: edit_manifest(store, change)


MT = {"bit_generator": "MT19937", "state": {"key": [1] * 624, "pos": 10**6}}
PHILOX = {
    "bit_generator": "Philox", "state": {"counter": [0] * 4, "key": [0] * 2}, "buffer": [0] * 4,
    "buffer_pos": -(10**6), "has_uint32": 0, "uinteger": 0,
}  # fmt: skip
PCG = {"bit_generator": "PCG64", "state": {"state": 1, "inc": 1}, "has_uint32": 0, "uinteger": 0}
ATTACKS += [
    Attack("a generator that reads behind its words", "v3", _generator(MT)),
    Attack("a generator that reads before its words", "v3", _generator(PHILOX)),
    Attack("a seed sequence of 10**7 words", "v3", _generator(PCG, 10**7)),
    Attack("a generator of another module", "v3", _generator(PCG | {"bit_generator": "os"})),
]


# Sizes.


def _sealed(store: Path, n_sealed: int) -> None:
    count = default_compressor().encode(struct.pack("<q", n_sealed))
    path = store / "_sampling_state/draw_idx/c.0"
    path.write_bytes(CRC32C(location="end").encode(count))


for count in (-1, 2**62, 10**11):

    @attack("v3", name=f"{count} sealed draws in chunks of one")
    def many_sealed(store: Path, outside: Outside, count: int = count) -> None:
        edit_manifest(store, lambda m: m.update(draws=10**12 - 100, chunk=1))
        _sealed(store, count)


@attack("v3")
def many_sealed_draws_in_one_chunk(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda m: m.update(draws=10**11, chunk=10**11))
    _sealed(store, 10**10)


@attack("v3")
def chains_beyond_number(store: Path, outside: Outside) -> None:
    edit_manifest(store, lambda m: m.update(chains=10**9))
    (store / "_sampling_state/draw_idx/c.999999999").write_bytes(
        (store / "_sampling_state/draw_idx/c.0").read_bytes()
    )


def bombs() -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return for each compressor what names it, and bytes that unpack to far too much."""
    block = bytes(1 << 24)
    times = BOMB_NBYTES // len(block)
    zeros = np.zeros(BOMB_NBYTES, "u1")
    blosc = numcodecs.Blosc("zlib", clevel=9)
    lz4 = numcodecs.LZ4()
    claim = struct.pack("<I", 2**31 - 1)
    xz = lzma.compress(block, preset=0)
    return {
        "zstd": ({"level": 3}, bytes(numcodecs.Zstd().encode(zeros))),
        "zstd that claims": ({"level": 3}, b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", 2**45)),
        "zstd without a size": ({"level": 3}, b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\xff\x0f" * 9),
        "blosc": (blosc.get_config(), bytes(blosc.encode(zeros))),
        "blosc that claims": (
            blosc.get_config(), b"\2\1\1\1" + claim + claim + struct.pack("<I", 16)
        ),
        "lz4": ({"acceleration": 1}, bytes(lz4.encode(np.zeros(1 << 28, "u1")))),
        "lz4 that claims": ({"acceleration": 1}, claim + b"\0" * 20),
        "gzip": ({"level": 1}, gzip.compress(block, 9) * times),
        "zlib": ({"level": 1}, zlib.compress(bytes(1 << 28), 9)),
        "bz2": ({"level": 1}, bz2.compress(block, 9) * times),
        "lzma": ({"format": 1, "check": -1, "preset": None, "filters": None}, xz * times),
    }  # fmt: skip


_BOMBS: dict[str, tuple[dict[str, Any], bytes]] = {}


def bomb(name: str) -> tuple[dict[str, Any], bytes]:
    if not _BOMBS:
        _BOMBS.update(bombs())
    return _BOMBS[name]


BOMBS = (
    "zstd", "zstd that claims", "zstd without a size", "blosc", "blosc that claims", "lz4",
    "lz4 that claims", "gzip", "zlib", "bz2", "lzma",
)  # fmt: skip

for kind in BOMBS:

    @attack("v3", name=f"a bomb of {kind}")
    def a_bomb_in_chunks(store: Path, outside: Outside, kind: str = kind) -> None:
        settings, data = bomb(kind)
        settings = {key: value for key, value in settings.items() if key != "id"}
        compressor = {"name": kind.split()[0], "configuration": settings}
        edit_manifest(store, lambda m: m.update(compressor=compressor))
        for path in store.rglob("c.*"):
            if path.parent.name != "draw_idx":
                path.write_bytes(CRC32C(location="end").encode(data))
        for path in store.rglob("c"):
            if path.is_file():
                path.write_bytes(CRC32C(location="end").encode(data))

    @attack("pymc", name=f"a bomb of {kind}")
    def a_bomb_of_pymc(store: Path, outside: Outside, kind: str = kind) -> None:
        settings, data = bomb(kind)
        for document in store.glob("posterior/*/.zarray"):
            edit(document, lambda d: d.update(compressor={"id": kind.split()[0]} | settings))
            for path in document.parent.glob("[0-9]*"):
                path.write_bytes(data)


def entries_of(store: Path) -> list[Path]:
    return sorted((store / "_sampling_state/log/c").glob("*/0*"))


def forge(entry: Path, n_rows: int, n_body: int, packed: bytes) -> None:
    """Write an entry of any content, with a checksum that holds."""
    header = list(struct.unpack("<8sHHIQQQIQQ", entry.read_bytes()[:60]))
    header[6:] = [n_rows, 2, n_body, len(packed)]
    data = struct.pack("<8sHHIQQQIQQ", *header) + packed
    entry.write_bytes(data + struct.pack("<I", zlib.crc32(data)))


@attack("v3", "v2")
def entries_that_are_bombs(store: Path, outside: Outside) -> None:
    _, data = bomb("zstd")
    for entry in entries_of(store):
        forge(entry, 1, BOMB_NBYTES, data)


@attack("v3")
def entries_that_claim(store: Path, outside: Outside) -> None:
    for entry in entries_of(store):
        forge(entry, 2**60, 2**62, bomb("zstd that claims")[1])


@attack("v3")
def an_entry_of_rows_without_bytes(store: Path, outside: Outside) -> None:
    """All columns are empty, so that any number of rows fits."""
    edit_manifest(
        store,
        lambda m: [column.__setitem__(2, [0]) for column in m["columns"] if column[1] != "text"],
    )
    manifest = json.loads((store / "zarr.json").read_text())["attributes"]["checkpoint"]
    columns = [Column.from_json(item) for item in manifest["columns"] if item[1] != "text"]
    entry = entries_of(store)[0]
    data = log_entry.encode(
        manifest["run_id"], int(entry.parent.name), int(entry.name), 10**17, columns,
        {column.path: np.empty((0, 0), column.dtype) for column in columns},
    )  # fmt: skip
    entry.write_bytes(data)


# Links and other files that are none.

LINKED = {
    "a chunk": "posterior/x/c.0.0.0",
    "a document": "posterior/x/zarr.json",
    "the root": "zarr.json",
    "the count": "_sampling_state/draw_idx/c.0",
    "the lock": "_sampling_state/log/.lock",
    "the holder": "_sampling_state/log/.holder",
    "a folder": "posterior",
    "the folder of an array": "posterior/x",
    "the state": "_sampling_state",
    "the log": "_sampling_state/log",
    "the log of a chain": "_sampling_state/log/c/0",
    "the damaged": "_sampling_state/log/damaged",
    "the data": "observed_data",
    "an entry": "",
}


def _aim(store: Path, key: str) -> Path:
    return store / key if key else entries_of(store)[-1]


def _clear(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


for what, key in LINKED.items():

    @attack("v3", name=f"{what} is a link to the same outside")
    def a_link(store: Path, outside: Outside, key: str = key) -> None:
        path = _aim(store, key)
        there = outside.folder / "moved"
        if path.exists():
            path.rename(there)
        else:
            there.write_text("{}")
        path.symlink_to(there)

    for where, name in (("a file outside", "file"), ("a folder outside", "folder"),
                        ("nothing yet", "new")):  # fmt: skip

        @attack("v3", name=f"{what} is a link to {where}")
        def a_link_to(store: Path, outside: Outside, key: str = key, name: str = name) -> None:
            path = _aim(store, key)
            _clear(path)
            path.symlink_to(outside.folder / name)

    @attack("v3", name=f"{what} is a link to itself")
    def a_loop(store: Path, outside: Outside, key: str = key) -> None:
        path = _aim(store, key)
        _clear(path)
        path.symlink_to(path)

    @attack("v3", name=f"{what} is a pipe")
    def a_pipe(store: Path, outside: Outside, key: str = key) -> None:
        path = _aim(store, key)
        _clear(path)
        os.mkfifo(path)

    @attack("v3", name=f"{what} is a link to an endless device")
    def a_device(store: Path, outside: Outside, key: str = key) -> None:
        path = _aim(store, key)
        _clear(path)
        path.symlink_to("/dev/zero")

    @attack("v3", name=f"{what} is a socket")
    def a_socket(store: Path, outside: Outside, key: str = key) -> None:
        path = _aim(store, key)
        _clear(path)
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)


@attack("v3")
def a_folder_that_holds_the_store(store: Path, outside: Outside) -> None:
    (store / "constant_data").mkdir(exist_ok=True)
    (store / "constant_data" / "again").symlink_to(store, target_is_directory=True)


@attack("v3")
def folders_without_end(store: Path, outside: Outside) -> None:
    here = Path.cwd()
    (store / "constant_data").mkdir(exist_ok=True)
    os.chdir(store / "constant_data")
    try:
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)


@attack("v3")
def files_that_may_not_be_read(store: Path, outside: Outside) -> None:
    for path in store.glob("posterior/x/*"):
        path.chmod(0)


@attack("v3")
def a_holder_that_is_none(store: Path, outside: Outside) -> None:
    (store / "_sampling_state/log/.holder").write_text('{"pid": "1", "since": 1e300, "host": [5]}')


@attack("v3")
def leftovers_that_are_links(store: Path, outside: Outside) -> None:
    for i in range(50):
        for folder in ("", "posterior/x/", "_sampling_state/log/c/0/"):
            link = store / f"{folder}.tmp-{os.getpid() + i}-0-zarr.json"
            link.symlink_to(outside.folder / "file")


# Zip files.


def write_zip(path: Path, entries: list[tuple[str, bytes]], directory: bool = True) -> None:
    """Write a zip file of any names."""
    parts, listed, at = [], {}, 0
    for name, value in entries:
        header = pack_local(name, zlib.crc32(value), len(value))
        listed[name] = Entry(at, 0, zlib.crc32(value), len(value), len(value))
        parts += [header, value]
        at += len(header) + len(value)
    data = b"".join(parts)
    path.write_bytes(data + (pack_directory(listed, at) if directory else b""))


def entries_in(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


for path_in_zip in (*POSIX_PATHS[:5], "", "n" * 5000, *ELSEWHERE):
    for directory in (True, False):

        @attack("zip", name=f"an entry {path_in_zip!r:.30}, {'listed' if directory else 'walked'}")
        def an_entry(
            store: Path, outside: Outside, name: str = path_in_zip, directory: bool = directory
        ) -> None:
            extra = [(name, b"hostile"), (f"constant_data/{name}/zarr.json", b"{}")]
            write_zip(store, [*entries_in(store), *extra], directory)


@attack("zip")
def entries_that_deflate_to_much(store: Path, outside: Outside) -> None:
    with zipfile.ZipFile(store.with_suffix(".new"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in entries_in(store):
            is_chunk = name.startswith("posterior/x/c.0")
            archive.writestr(name, bytes(1 << 28) if is_chunk else value)
    store.with_suffix(".new").rename(store)


@attack("zip")
def entries_that_lie_over_each_other(store: Path, outside: Outside) -> None:
    data = zlib.compress(bytes(1 << 24), 9)[2:-4]
    header = pack_local("a", zlib.crc32(bytes(1 << 24)), 1 << 24, 8, len(data))
    entry = Entry(0, 8, zlib.crc32(bytes(1 << 24)), len(data), 1 << 24)
    listed = {f"posterior/x/c.{i}.0.0": entry for i in range(20_000)}
    body = header + data
    store.write_bytes(body + pack_directory(listed, len(body)))


@attack("zip")
def a_zip_that_is_a_pipe(store: Path, outside: Outside) -> None:
    store.unlink()
    os.mkfifo(store)


@attack("zip")
def a_zip_that_is_an_endless_device(store: Path, outside: Outside) -> None:
    store.unlink()
    store.symlink_to("/dev/zero")


for name_beside in (".lock", ".holder"):

    @attack("zip", name=f"{name_beside} of a zip file is a link outside")
    def a_link_beside(store: Path, outside: Outside, suffix: str = name_beside) -> None:
        path = store.with_name(f".{store.name}{suffix}")
        path.unlink(missing_ok=True)
        path.symlink_to(outside.folder / "file")


@attack("zip")
def a_directory_of_forged_offsets(store: Path, outside: Outside) -> None:
    entries = {name: Entry(2**62, 0, 5, 2**40, 2**40) for name, _ in entries_in(store)}
    data = store.read_bytes()
    store.write_bytes(data + pack_directory(entries, len(data)))


@attack("zip")
def what_looks_like_entries(store: Path, outside: Outside) -> None:
    """Walking would check each of them to its end."""
    header = pack_local("posterior/x/c.0.0.0", 1, 1 << 20)
    store.write_bytes(header * (4 << 14))


# Stores of PyMC's ZarrTrace.


def _zarr2(path: str, **fields: Any) -> Callable[[Path, Outside], None]:
    def change(store: Path, outside: Outside) -> None:
        for document in store.glob(f"{path}/.zarray"):
            edit(document, lambda d: d.update(fields))

    return change


ATTACKS += [
    Attack(f"{path} with {fields!r:.50}", "pymc", _zarr2(path, **fields))
    for path in ("posterior/x", "_sampling_state/draw_idx", "_sampling_state/tuning_steps",
                 "sample_stats/*")
    for fields in (
        {"shape": [10**18]}, {"shape": [10**9, 10**9]}, {"shape": [2, 10**15, 2]}, {"shape": []},
        {"chunks": [10**18]}, {"chunks": [1]}, {"dtype": "|O", "filters": [{"id": "pickle"}]},
        {"dtype": "<U100000000"}, {"dtype": "f8,f8"}, {"dtype": "<M8[ns]"}, {"dtype": [["a", "O"]]},
        {"compressor": {"id": "pickle"}}, {"filters": [{"id": "pickle"}]}, {"order": "K"},
        {"dimension_separator": "/../"}, {"shape": None}, {"shape": [float("nan")]}, {"dtype": 5},
    )
]  # fmt: skip


@attack("pymc")
def states_that_are_pickles_of_others(store: Path, outside: Outside) -> None:
    document = json.loads((store / "_sampling_state/sampling_state/.zarray").read_text())
    codec = document["compressor"] and numcodecs.get_codec(document["compressor"])
    for path in store.glob("_sampling_state/sampling_state/[0-9]*"):
        path.write_bytes(codec.encode(outside.code) if codec else outside.code)


@attack("pymc")
def objects_among_the_stats(store: Path, outside: Outside) -> None:
    for document in store.glob("*/*/.zarray"):
        edit(document, lambda d: d.update(dtype="|O", filters=[{"id": "pickle"}]))
        for path in document.parent.glob("[0-9]*"):
            path.write_bytes(outside.code)


@attack("pymc")
def deep_documents_of_pymc(store: Path, outside: Outside) -> None:
    for document in store.glob("posterior/*/.z*"):
        document.write_text("[" * 10**6)


@attack("pymc")
def names_of_dimensions_that_lead_out(store: Path, outside: Outside) -> None:
    names = ["chain", "draw", "../../outside/file"]
    for document in store.glob("posterior/*/.zattrs"):
        edit(document, lambda d: d.update(_ARRAY_DIMENSIONS=names))


@attack("pymc")
def counts_that_are_none(store: Path, outside: Outside) -> None:
    for document in store.glob("_sampling_state/*/.zarray"):
        edit(document, lambda d: d.update(dtype="<f8", compressor=None))
        for path in document.parent.glob("[0-9]*"):
            path.write_bytes(struct.pack("<d", float("nan")) * 8)


@attack("pymc")
def chunks_of_pymc_outside(store: Path, outside: Outside) -> None:
    for path in store.glob("posterior/*/0.0*"):
        path.unlink()
        path.symlink_to(outside.folder / "file")
