"""Decompress bytes that others may have written, into no more than is expected.

Decoders believe what a frame says of itself, and some unpack until the memory is full. Here a
frame is asked for its size first, or unpacked with a limit.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["most_text_nbytes", "unpack"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_GZIP = 16 + zlib.MAX_WBITS

_LZMA_MEMORY = 1 << 30


def most_text_nbytes(n_packed: int) -> int:
    """Return what packed text, whose length is not known, may unpack to."""
    return max(1 << 30, 1000 * n_packed)


def unpack(codec: Any, data: bytes, most: int) -> bytes:
    """Return what a numcodecs codec unpacks `data` to, at most `most` bytes.

    Raises
    ------
    ValueError
        If it is more. Nothing of that size was allocated, if the codec is one of numcodecs'
        compressors; others are unpacked first. Codecs raise errors of their own as well.
    """
    if codec is None:
        unpacked = data
    elif codec.codec_id in _SIZES:
        size_of, most_ratio = _SIZES[codec.codec_id]
        n_bytes = size_of(data)
        _check(n_bytes, min(most, most_ratio * len(data)))
        unpacked = bytes(codec.decode(data, np.empty(n_bytes, "u1"))) if n_bytes else b""
    elif codec.codec_id in _STREAMS:
        unpacked = _unpack_stream(_STREAMS[codec.codec_id], codec, data, most)
    else:
        unpacked = bytes(codec.decode(data))
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


# With the most that each can unpack a byte to: zstd repeats one 128 KiB times in a block of four,
# blosc may have zstd in it, and lz4 adds up bytes of 255.
_SIZES: dict[str, tuple[Callable[[bytes], int], int]] = {
    "zstd": (_zstd_nbytes, 1 << 15),
    "blosc": (_blosc_nbytes, 1 << 15),
    "lz4": (_lz4_nbytes, 255),
}


def _lzma_stream(codec: Any) -> Any:
    if codec.format == lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(codec.format, filters=codec.filters)
    return lzma.LZMADecompressor(codec.format, memlimit=_LZMA_MEMORY)


_STREAMS: dict[str, Callable[[Any], Any]] = {
    "zlib": lambda codec: zlib.decompressobj(),
    "gzip": lambda codec: zlib.decompressobj(_GZIP),
    "bz2": lambda codec: bz2.BZ2Decompressor(),
    "lzma": _lzma_stream,
}


def _unpack_stream(make: Callable[[Any], Any], codec: Any, data: bytes, most: int) -> bytes:
    """Unpack one stream behind the other, as gzip, bz2 and xz files may have several."""
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
