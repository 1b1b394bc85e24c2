"""The readers of a store, each as a function of bytes, with inputs to begin from.

A reader may return, or raise the errors that it declares. What else it does is a fault.
"""

import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numcodecs.checksum32 import CRC32C

from checkpoint.errors import DamagedStoreError, FormatVersionError, NotARunError
from checkpoint.format import log_entry, plain
from checkpoint.format.arrays import TEXT, ArraySpec, whole_array
from checkpoint.format.compressors import Compressor, default_compressor
from checkpoint.format.json_object import parse_object
from checkpoint.format.log_entry import EntryError
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Column
from checkpoint.hierarchy.nodes import read_array, read_chunk
from checkpoint.interop.zarr_trace_store.zarr2 import open_array
from checkpoint.stores import ZipStore, as_store
from checkpoint.stores.holder import Holder

__all__ = ["READERS", "Reader", "mutated"]

COLUMNS = (
    Column("posterior/x", "<f8", (2,)),
    Column("sample_stats/sampler_0__tune", "|b1"),
    Column("sample_stats/sampler_0__warning", TEXT),
    Column("_sampling_state/step_0/matrix", "<f8", (3, 3), per_commit=True),
)

MOST_ROWS, MOST_NBYTES = 8, 1 << 17


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes
    ----------
    name : str
    seeds : list of bytes
        Inputs that it reads.
    read : callable
        Reads bytes.
    declared : tuple of exception types
        What it may raise.
    refitted : callable
        Mends the checksums and lengths of changed bytes, so that what lies deeper is reached.
    """

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], Any]
    declared: tuple[type[Exception], ...]
    refitted: Callable[[bytes], bytes] = bytes


def mutated(rng: random.Random, reader: Reader) -> bytes:
    """Return an input changed in a few places."""
    data = bytearray(rng.choice(reader.seeds))
    for _ in range(rng.randint(1, 4)):
        _mutate(rng, data, reader.seeds)
    return reader.refitted(bytes(data)) if rng.random() < 0.7 else bytes(data)


_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TOKENS = (
    b"null", b"-1", b"1e400", b"NaN", b"[]", b"{}", b'""', b"true", b'"|O"', b"1" * 30, b"..",
    b'"../../x"', b"[" * 2000, b"0.5", b'"\\ud800"', b"9" * 5000, b"\0",
)  # fmt: skip


def _mutate(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    stop = min(len(data), at + 1 + int(rng.paretovariate(0.7)))
    match rng.randrange(8):
        case 0 if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            del data[at:stop]
        case 3:
            data[at:at] = data[at:stop] * rng.randint(1, 3)
        case 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at:stop] = other[start : start + stop - at]
        case 5:
            number = rng.choice(_NUMBERS).to_bytes(8, "little")[: rng.choice((1, 2, 4, 8))]
            data[at : at + len(number)] = number
        case 6:
            data[at:stop] = rng.choice(_TOKENS)
        case _:
            data[at:stop] = rng.randbytes(stop - at)


def _rows(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    return {
        "posterior/x": rng.normal(size=(n, 2)),
        "sample_stats/sampler_0__tune": np.arange(n) % 2 == 0,
        "sample_stats/sampler_0__warning": np.array(["", "é", "[1]"] * n, dtype=object)[:n],
        "_sampling_state/step_0/matrix": rng.normal(size=(1, 3, 3)),
    }


def _refit_entry(data: bytes) -> bytes:
    """Mend length and checksum; half of the time the body too, packed anew."""
    if len(data) < 64:
        return data
    packed = data[60:-4]
    header = list(struct.unpack("<8sHHIQQQIQQ", data[:60]))
    header[0], header[1], header[9] = log_entry.MAGIC, 1, len(packed)
    whole = struct.pack("<8sHHIQQQIQQ", *header) + packed
    return whole + struct.pack("<I", zlib.crc32(whole))


def _repacked(body: bytes) -> bytes:
    """Return the entry whose body, unpacked, is given behind the header's numbers."""
    body = body.ljust(4, b"\0")
    n_names, n_rows = struct.unpack_from("<HH", body)
    packed = bytes(numcodecs.Zstd(level=1).encode(body[4:]))
    header = struct.pack(
        "<8sHHIQQQIQQ", log_entry.MAGIC, 1, 0, 0, 5, 0, n_rows, n_names, len(body) - 4, len(packed)
    )
    return header + packed + struct.pack("<I", zlib.crc32(header + packed))


def _read_entry(data: bytes) -> None:
    log_entry.decode(data, MOST_ROWS, MOST_NBYTES)


def _entries() -> list[bytes]:
    return [log_entry.encode(5, 0, 3, n, COLUMNS, _rows(n)) for n in (1, 2, 5, 8)]


def _bodies() -> list[bytes]:
    names = log_entry.encode_columns(COLUMNS)
    found = []
    for n, entry in zip((1, 2, 5, 8), _entries(), strict=True):
        body = bytes(numcodecs.Zstd().decode(entry[60:-4]))
        found.append(struct.pack("<HH", len(names), n) + body)
    return found


def _zips() -> list[bytes]:
    """Return zip files: whole, torn, with removals, deflated by others."""
    import zipfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zip"
        store = ZipStore(path)
        with store.locked():
            store.write({"zarr.json": b"{}", "posterior/x/c.0": b"abc" * 40})
            store.create("_sampling_state/log/c/0/000000000000", b"row")
        first = path.read_bytes()
        with store.locked():
            store.remove(["posterior/x/c.0"])
            store.write({"posterior/x/c.1": b"PK\3\4 inside"})
        second = path.read_bytes()
        other = Path(folder) / "b.zip"
        with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zarr.json", b"{}" * 200)
            archive.writestr("folder/", b"")
        return [first, second, second[: len(second) - 30], first[:100], other.read_bytes()]


def _read_zip(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        path = Path(folder) / "a.zip"
        path.write_bytes(data)
        store = ZipStore(path)
        try:
            for key in [*store.keys()][:20]:
                try:
                    store.read(key)
                except DamagedStoreError:
                    continue
            store.names("")
        finally:
            store.close()
        ZipStore(path).repair()


_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def _refit_zip(data: bytes) -> bytes:
    """Mend the checksum of each stored entry whose header is whole."""
    data_out = bytearray(data)
    at = data.find(b"PK\3\4")
    while at >= 0 and at + 30 <= len(data):
        n_packed, _, n_name, n_extra = struct.unpack_from("<LLHH", data, at + 18)
        start = at + 30 + n_name + n_extra
        crc = zlib.crc32(data[start : start + n_packed])
        data_out[at + 14 : at + 18] = struct.pack("<L", crc)
        at = data.find(b"PK\3\4", at + 4)
    end = data.rfind(b"PK\5\6")
    comment = data.find(b"checkpoint: directory crc32 ", max(end, 0))
    if end >= 0 and comment >= 0 and end + 20 <= len(data):
        n_bytes, offset = struct.unpack_from("<LL", data, end + 12)
        crc = zlib.crc32(bytes(data_out[offset : offset + n_bytes]))
        data_out[comment + 28 : comment + 36] = b"%08x" % crc
    return bytes(data_out)


def _texts() -> list[bytes]:
    values = [
        None, [1, 2.5, "a"], (1, 2), np.arange(3.0), np.float32(1), 1 + 2j, {"a": 1}, {1: "b"},
        ValueError("x"), np.dtype("<f8"), np.array([None, "a"], dtype=object),
        np.random.default_rng(1).bit_generator.state, {"$a": 5},
    ]  # fmt: skip
    return [plain.dumps(value).encode() for value in values]


def manifest() -> Manifest:
    """Return the manifest of a run of two chains."""
    state = {"state": plain.dumps(np.random.PCG64(1).state), "seed_sequence": "{}"}
    schema = {
        "step_idx": 0, "name": "Metropolis of x", "fields": [{"kind": "scalar", "path": "scaling",
        "dtype": "<f8", "type": "float"}], "constants": {"matrix": None, "tune": "true"},
        "orders": ["C"], "is_pickled": False,
    }  # fmt: skip
    return Manifest(
        run_id=5, zarr_format=3, chains=2, tune=6, draws=8, warmup_chunk=3, chunk=4,
        compressor=default_compressor().to_json(), columns=COLUMNS, schemas=(schema,),
        point_paths={"x": "posterior/x"}, variables=("x",), model={"a": "b"}, settings={},
        environment={}, seed="1", rngs=(state, state), start_logp=(), sequential=True,
        fastmath=False,
    )  # fmt: skip


def _read_manifest(data: bytes) -> None:
    document = json.loads(data)
    found = Manifest.from_json(document, "store")
    _ = found.codec
    for column in found.columns:
        for warmup in (True, False):
            found.spec(column, warmup)
    found.constant_paths()
    found.grid.chunk_at(found.total)


_SPECS = {
    f"{name} {dtype}": ArraySpec(
        "a", dtype, (4, 3), (4, 3), ("chain", "draw"), 3,
        Compressor(None if name == "none" else numcodecs.get_codec({"id": name})),
    )
    for name in ("none", "zstd", "blosc", "gzip", "zlib", "bz2", "lzma", "lz4")
    for dtype in ("<f8", TEXT)
}  # fmt: skip


def _chunk_reader(name: str, spec: ArraySpec) -> Reader:
    key = spec.chunk_key(0, 0)
    values = np.arange(12.0).reshape(4, 3)
    texts = np.array(["é" * i for i in range(12)], dtype=object).reshape(4, 3)
    return Reader(
        f"chunks: {name}",
        [spec.encode(texts if spec.is_text else values * n) for n in (0, 1)],
        lambda data: read_chunk(as_store({key: _buffer(data)}), spec, 0, 0),
        (DamagedStoreError,),
        lambda data: bytes(CRC32C(location="end").encode(data[:-4])) if len(data) > 4 else data,
    )


def _buffer(data: bytes) -> Any:
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(data)


def _read_zarr2(data: bytes) -> None:
    document, _, chunk = data.partition(b"\n--\n")
    store = as_store({"a/.zarray": _buffer(document), "a/0.0": _buffer(chunk)})
    open_array(store, "a").read()


def _zarr2s() -> list[bytes]:
    found = []
    for name in ("zstd", "blosc", "lz4", "zlib"):
        codec = numcodecs.get_codec({"id": name})
        document = {
            "zarr_format": 2, "shape": [4, 3], "chunks": [4, 3], "dtype": "<f8", "order": "C",
            "compressor": codec.get_config(), "filters": None, "fill_value": None,
        }  # fmt: skip
        found.append(json.dumps(document).encode() + b"\n--\n" + bytes(codec.encode(np.ones(12))))
    return found


def _read_whole(data: bytes) -> None:
    document, _, chunk = data.partition(b"\n--\n")
    store = as_store({"a/zarr.json": _buffer(document), "a/c.0": _buffer(chunk)})
    read_array(store, manifest(), "a")


def _wholes() -> list[bytes]:
    found = []
    for values in (np.arange(5), np.array(["a", "bc"]), np.array(["2020-01-01"], "M8[D]")):
        _, keys = whole_array("a", values, ("i",), 3, default_compressor())
        found.append(keys["a/zarr.json"] + b"\n--\n" + keys["a/c.0"])
    return found


def _read_holder(data: bytes) -> None:
    holder = Holder.from_json(parse_object(data))
    if holder is not None:
        str(holder)
        _ = holder.is_certainly_dead


READERS = [
    Reader("log entries", _entries(), _read_entry, (EntryError,), _refit_entry),
    Reader("bodies of log entries", _bodies(), lambda d: _read_entry(_repacked(d)), (EntryError,)),
    Reader("zip files", _zips(), _read_zip, (NotARunError, DamagedStoreError), _refit_zip),
    Reader(
        "plain text", _texts(), lambda d: plain.loads(d.decode(errors="replace")),
        (DamagedStoreError,),
    ),
    Reader(
        "manifests", [json.dumps(manifest().to_json()).encode()],
        lambda d: _read_manifest(_as_json(d)), (DamagedStoreError, FormatVersionError),
    ),
    *(_chunk_reader(name, spec) for name, spec in _SPECS.items()),
    Reader("zarr 2 arrays", _zarr2s(), _read_zarr2, (DamagedStoreError, FormatVersionError)),
    Reader("arrays", _wholes(), _read_whole, (DamagedStoreError,)),
    Reader("holders", [json.dumps(Holder.this_process().to_json()).encode()], _read_holder,
           (ValueError,)),
]  # fmt: skip


def _as_json(data: bytes) -> bytes:
    """Return bytes if they are an object in JSON; else the first seed: that is tried elsewhere."""
    try:
        return json.dumps(parse_object(data)).encode()
    except ValueError:
        return json.dumps(manifest().to_json()).encode()
