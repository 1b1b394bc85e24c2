"""Decompress bytes that others may have written, within a limit of memory.

Decoders trust the size that a frame claims, and some unpack until the memory is full. Here the
claimed size is checked first, or the frame is unpacked with a limit.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from checkpoint.format.codecs import LZMA_MEMORY_NBYTES

__all__ = ["MOST_CHUNK_NBYTES", "most_text_nbytes", "unpack", "unpack_view"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_GZIP = 16 + zlib.MAX_WBITS

MOST_CHUNK_NBYTES = 1 << 31
"""Most bytes of a chunk of any array; larger ones are neither written nor read."""

_CHECKSUM_NBYTES = 4


def most_text_nbytes(n_packed: int, n_items: int = 0) -> int:
    """Return the most bytes that packed text of unknown length may unpack to."""
    room = 4 * (1 + n_items) + max(1 << 28, 1000 * n_packed)
    return min(MOST_CHUNK_NBYTES, room)


def unpack(codec: Any, data: bytes, most: int) -> bytes:
    """Unpack `data` with a numcodecs codec into at most `most` bytes; see `unpack_view`."""
    return bytes(unpack_view(codec, data, most))


def unpack_view(codec: Any, data: bytes, most: int) -> bytes | memoryview:
    """Unpack `data` with a numcodecs codec; a memoryview that is returned owns its memory.

    Raises
    ------
    ValueError
        If it is more than `most` bytes, or the format does not know the codec. Codecs raise errors
        of their own as well.

    Notes
    -----
    Memory: at most three times the unpacked size, and for lzma `LZMA_MEMORY_NBYTES` more.
    """
    unpacked: bytes | memoryview
    if codec is None:
        unpacked = data
    elif codec.codec_id in _SIZES:
        size_of, most_ratio = _SIZES[codec.codec_id]
        n_bytes = size_of(data)
        _check(n_bytes, min(most, most_ratio * len(data)))
        unpacked = memoryview(codec.decode(data, np.empty(n_bytes, "u1"))) if n_bytes else b""
    elif codec.codec_id in _STREAMS:
        unpacked = _unpack_stream(_STREAMS[codec.codec_id], codec, data, most)
    elif codec.codec_id in _CHECKSUMS:
        _check(len(data) - _CHECKSUM_NBYTES, most)
        unpacked = bytes(codec.decode(data))
    else:
        raise ValueError(f"the codec {codec.codec_id!r:.60} is none of the format")
    _check(len(unpacked), most)
    return unpacked


def _check(n_bytes: int, most: int) -> None:
    if n_bytes > most:
        raise ValueError(f"it unpacks to {n_bytes} bytes, expected at most {most}")


def _zstd_nbytes(data: bytes) -> int:
    """Return the size in the header of a frame (RFC 8878, section 3.1.1)."""
    if data[:4] != _ZSTD_MAGIC or len(data) < 6:
        raise ValueError("it is no zstd frame")
    descriptor = data[4]
    is_single = descriptor >> 5 & 1
    n_size = (is_single, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3]
    field = data[start : start + n_size]
    if not n_size or len(field) < n_size:
        raise ValueError("the zstd frame does not say its size")
    return int.from_bytes(field, "little") + (256 if n_size == 2 else 0)


def _blosc_nbytes(data: bytes) -> int:
    sizes = np.frombuffer(data[4:16], "<u4").tolist()
    if len(sizes) != 3 or sizes[2] != len(data):
        raise ValueError("it is cut short")
    return int(sizes[0])


def _lz4_nbytes(data: bytes) -> int:
    if len(data) < 4:
        raise ValueError("it is cut short")
    return int.from_bytes(data[:4], "little")


# Each with the most bytes that one byte can unpack to: a zstd block of four bytes repeats one byte
# 131,072 times, blosc may contain zstd, and lz4 adds up bytes of 255.
_SIZES: dict[str, tuple[Callable[[bytes], int], int]] = {
    "zstd": (_zstd_nbytes, 1 << 15),
    "blosc": (_blosc_nbytes, 1 << 15),
    "lz4": (_lz4_nbytes, 255),
}


# Their decoded bytes are shorter than the encoded ones.
_CHECKSUMS = ("crc32c", "crc32", "adler32")


def _lzma_stream(codec: Any) -> Any:
    if codec.format == lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(codec.format, filters=codec.filters)
    return lzma.LZMADecompressor(codec.format, memlimit=LZMA_MEMORY_NBYTES)


_STREAMS: dict[str, Callable[[Any], Any]] = {
    "zlib": lambda codec: zlib.decompressobj(),
    "gzip": lambda codec: zlib.decompressobj(_GZIP),
    "bz2": lambda codec: bz2.BZ2Decompressor(),
    "lzma": _lzma_stream,
}


def _unpack_stream(make: Callable[[Any], Any], codec: Any, data: bytes, most: int) -> bytes:
    """Unpack all streams one after the other: gzip, bz2 and xz files may have several."""
    parts, n_bytes = [], 0
    while data:
        stream = make(codec)
        parts.append(stream.decompress(data, most - n_bytes + 1))
        n_bytes += len(parts[-1])
        _check(n_bytes, most)
        if not stream.eof:
            raise ValueError("it is cut short")
        data = stream.unused_data
    return b"".join(parts)
