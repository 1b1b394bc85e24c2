"""A store names only codecs that are known, and they unpack to no more than is expected."""

import json
import lzma
import struct
import tracemalloc

import numcodecs
import numpy as np
import pytest
import zarr.codecs
from numcodecs.checksum32 import CRC32C

from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.format.arrays import ArraySpec
from checkpoint.format.codecs import BYTE_CODECS, byte_codec, byte_codec_v3
from checkpoint.format.compressors import Compressor
from checkpoint.format.manifest_check import check
from checkpoint.format.rows import Column
from checkpoint.format.unpacking import MOST_CHUNK_NBYTES, unpack

KNOWN = [
    numcodecs.Zstd(7, checksum=True), numcodecs.Blosc("zstd", 3, numcodecs.Blosc.AUTOSHUFFLE),
    numcodecs.LZ4(3), numcodecs.GZip(4), numcodecs.Zlib(2), numcodecs.BZ2(1), numcodecs.LZMA(),
    numcodecs.LZMA(preset=9),
    numcodecs.LZMA(lzma.FORMAT_RAW, -1, None, [{"id": lzma.FILTER_LZMA2}]),
    CRC32C(), CRC32C(location="end"), numcodecs.CRC32(), numcodecs.Adler32(),
]  # fmt: skip

UNKNOWN = [
    {"id": "pickle"}, {"id": "Pickle"}, {"id": "PICKLE", "protocol": 5}, {"id": "json2"},
    {"id": "msgpack2"}, {"id": "vlen-array", "dtype": "<i4"}, {"id": "vlen-utf8"},
    {"id": "vlen-bytes"}, {"id": "categorize", "labels": ["a"], "dtype": "U1"},
    {"id": "astype", "encode_dtype": "S1", "decode_dtype": "S20000000"}, {"id": "packbits"},
    {"id": "delta", "dtype": "<f8"},
    {"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": "<f8"},
    {"id": "base64"}, {"id": "shuffle", "elementsize": 0}, {"id": "fletcher32"}, {"id": "pcodec"},
    {"id": "zfpy"}, {"id": "n5_wrapper"}, {"id": ""}, {"id": None}, {"id": ["zstd"]}, {}, 5, None,
    {"id": "zstd", "level": "3"}, {"id": "zstd", "level": True}, {"id": "zstd", "more": 1},
    {"id": "blosc", "cname": "pickle"}, {"id": "blosc", "blocksize": 1 << 40},
    {"id": "lzma", "filters": [{"id": lzma.FILTER_LZMA2, "dict_size": 3 << 30}], "format": 3},
    {"id": "lzma", "filters": [["id", 33]]}, {"id": "crc32c", "location": "middle"},
]  # fmt: skip


@pytest.mark.parametrize("codec", KNOWN, ids=repr)
@pytest.mark.parametrize("itemsize", [1, 8])
def test_what_a_user_may_pass_comes_back_from_both_documents(codec, itemsize):
    given = Compressor.of(codec)
    data = np.arange(512).tobytes()
    packed = given.encode(data)
    [document] = given.document_v3(itemsize)
    v2 = json.loads(json.dumps(given.document_v2()))
    for found in (
        Compressor.of(codec),
        Compressor.from_json(json.loads(json.dumps(given.to_json()))),
        Compressor(byte_codec_v3(json.loads(json.dumps(document)))),
        Compressor(byte_codec(v2)),
    ):
        assert found.decode(packed, len(data)) == data
        with pytest.raises(ValueError, match="unpacks to"):
            found.decode(packed, len(data) - 1)


@pytest.mark.parametrize(
    "codec", [zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec(typesize=8, cname="lz4"),
              zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()], ids=repr,
)  # fmt: skip
def test_codecs_of_zarr_are_taken(codec):
    compressor = Compressor.of(codec)
    assert compressor.decode(compressor.encode(bytes(800)), 800) == bytes(800)


@pytest.mark.parametrize("config", UNKNOWN, ids=repr)
def test_all_else_is_refused_before_anything_is_made_of_it(config, monkeypatch):
    monkeypatch.setattr(numcodecs, "get_codec", None)
    with pytest.raises(ValueError, match="codec"):
        byte_codec(config)
    settings = {k: v for k, v in config.items() if k != "id"} if isinstance(config, dict) else {}
    name = config.get("id") if isinstance(config, dict) else config
    prefixed = f"numcodecs.{name}" if isinstance(name, str) else name
    for known_as in (name, prefixed):
        with pytest.raises(DamagedStoreError, match="Nothing was loaded"):
            Compressor.from_document({"name": known_as, "configuration": settings})


@pytest.mark.parametrize(
    "codec", [numcodecs.Pickle(), numcodecs.AsType("S1", "S9"), numcodecs.VLenArray("<i4"),
              numcodecs.Delta("<f8"), zarr.codecs.BytesCodec(), "zstd", 3], ids=repr,
)  # fmt: skip
def test_a_user_is_told_which_compressors_there_are(codec):
    with pytest.raises(ArgumentError, match=r"compressor=.*Blosc"):
        Compressor.of(codec)


def test_a_configuration_cannot_name_another_codec():
    with pytest.raises(ValueError, match="settings"):
        byte_codec_v3({"name": "zstd", "configuration": {"id": "pickle"}})


def test_a_codec_that_is_not_known_is_not_decoded_with():
    with pytest.raises(ValueError, match="none of the format"):
        unpack(numcodecs.AsType("S1", "S20000000"), b"1" * 100, 1 << 20)


def bombs():
    """Yield for each codec bytes that unpack, or claim to, to 16 MiB or more."""
    for name in BYTE_CODECS:
        if name in ("zlib", "gzip", "bz2", "lzma", "zstd"):
            codec = byte_codec({"id": name})
            yield name, bytes(codec.encode(bytes(1 << 24)))
    yield "lz4", struct.pack("<I", 1 << 30) + bytes(100)
    yield "blosc", b"\2\1\1\1" + struct.pack("<III", 1 << 30, 1 << 20, 116) + bytes(100)
    yield "zstd", b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 1 << 30) + bytes(100)


@pytest.mark.parametrize(("name", "data"), [*bombs()], ids=lambda value: str(value)[:8])
def test_a_bomb_is_refused_before_room_is_made_for_it(name, data):
    codec = byte_codec({"id": name})
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to"):
        unpack(codec, data, 1 << 20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 << 20


def spec_of(shape, dtype="<f8"):
    return ArraySpec("posterior/x", dtype, shape, shape, tuple("abcdef"[: len(shape)]), 3,
                     Compressor(None))  # fmt: skip


def test_chunks_are_of_bounded_size():
    assert spec_of((MOST_CHUNK_NBYTES // 8,)).documents()
    with pytest.raises(ArgumentError, match="draws_per_chunk"):
        spec_of((MOST_CHUNK_NBYTES // 8 + 1,)).documents()
    values = {"tune": 1, "draws": 1, "warmup_chunk": 1, "chunk": 1 << 20}
    column = Column("posterior/x", "<f8", (1 << 20,))
    with pytest.raises(ValueError, match="a chunk of 'posterior/x' would take"):
        check(values, [column])


def test_text_does_not_make_room_for_more_items_than_the_chunk_has():
    spec = spec_of((4,), "text")
    forged = struct.pack("<I", 1 << 31) + bytes(64)
    with pytest.raises(ValueError, match="texts"):
        spec.decode(bytes(CRC32C(location="end").encode(forged)))
