"""Pack and unpack the records of a zip file, named as in PKWARE's APPNOTE 6.3.

Only what a store needs is supported: stored or deflated entries, on one disk, not encrypted.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from checkpoint.format import layout

__all__ = [
    "CENTRAL",
    "DEFLATED",
    "END",
    "END_64",
    "FINDABLE",
    "LOCAL",
    "LOCAL_NBYTES",
    "LOCATOR_64",
    "LONGEST_LOCAL",
    "OUR_HEADER",
    "STORED",
    "TRAILER_NBYTES",
    "Directory",
    "Entry",
    "Local",
    "RecordError",
    "RefusedError",
    "central_nbytes",
    "check_name",
    "inflate",
    "pack_directory",
    "pack_local",
    "record_nbytes",
    "unpack_directory",
    "unpack_end",
    "unpack_local",
]

LOCAL = b"PK\x03\x04"
CENTRAL = b"PK\x01\x02"
END = b"PK\x05\x06"
END_64 = b"PK\x06\x06"
LOCATOR_64 = b"PK\x06\x07"

STORED, DEFLATED = 0, 8

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_LENGTHS = struct.Struct("<3H")  # of name, extra field and comment, in a central header

LONGEST_LOCAL = _LOCAL.size + 2 * 0xFFFF
"""Bytes of a local header with the longest name and extra field."""

TRAILER_NBYTES = _END.size + 0xFFFF
"""Bytes of an end record with the longest comment, which ends the file."""

_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF
_EXTRA_64 = 1
_EXTRA_CRC = 0x6B63  # "ck", of this package: CRC-32 of the header without this field, the last
_CRC_FIELD = struct.Struct("<2HL")

LOCAL_NBYTES = _LOCAL.size + _CRC_FIELD.size
"""Bytes of a local header of this package, without its name."""
_COMMENT = b"checkpoint: directory crc32 %08x"
_OUR_COMMENT = re.compile(rb"checkpoint: directory crc32 [0-9a-f]{8}")

FINDABLE = 0xFFFF - len(_COMMENT % 0)
"""Bytes that may follow an end record of this package, so that other programs still find it.

They search back from the end of the file as far as the longest comment could reach.
"""

_DATE, _TIME = 0x21, 0  # 1980-01-01, the earliest in a zip file: equal runs give equal bytes
_UNIX, _FILE_MODE = 3 << 8, 0o100644 << 16

OUR_HEADER = _LOCAL.pack(LOCAL, 20, _UTF8, STORED, _TIME, _DATE, 0, 0, 0, 0, 0)[:14]
"""The first bytes of the local headers of this package."""

# Deflate cannot shrink by more than 1032 to 1 (zlib's technical details).
_MAX_INFLATION = 1032


class RecordError(ValueError):
    """Bytes that are no whole record."""


class RefusedError(RecordError):
    """A record of a kind that a store may not hold."""


class Entry(NamedTuple):
    """The location of a value in an archive.

    Attributes
    ----------
    offset : int
        Offset of its local header.
    method : int
        `STORED` or `DEFLATED`.
    crc : int
        CRC-32 of the value.
    n_packed : int
        Bytes in the archive.
    n_bytes : int
        Bytes of the value.
    """

    offset: int
    method: int
    crc: int
    n_packed: int
    n_bytes: int


class Local(NamedTuple):
    """A local header."""

    name: str
    entry: Entry
    header_nbytes: int
    sizes_follow: bool
    is_checked: bool


def pack_local(
    name: str, crc: int, n_bytes: int, method: int = STORED, n_packed: int = -1
) -> bytes:
    """Return the local header of an entry."""
    n_packed = n_bytes if n_packed < 0 else n_packed
    encoded = name.encode()
    is_large = max(n_packed, n_bytes) >= _MAX_32
    extra = struct.pack("<2H2Q", _EXTRA_64, 16, n_bytes, n_packed) if is_large else b""
    sizes = (_MAX_32, _MAX_32) if is_large else (n_packed, n_bytes)
    header = _LOCAL.pack(
        LOCAL, 45 if is_large else 20, _UTF8, method, _TIME, _DATE, crc, *sizes,
        len(encoded), len(extra) + _CRC_FIELD.size,
    )  # fmt: skip
    data = b"".join([header, encoded, extra])
    return data + _CRC_FIELD.pack(_EXTRA_CRC, 4, zlib.crc32(data))


def unpack_local(data: bytes, offset: int) -> Local:
    """Return the local header at the start of `data`, which was read at `offset` of a file.

    Raises
    ------
    RecordError
        If there is none, it is cut off or damaged, or a store may not hold its entry.
    """
    if len(data) < _LOCAL.size:
        raise RecordError("it is cut off")
    magic, _, flags, method, _, _, crc, n_packed, n_bytes, n_name, n_extra = _LOCAL.unpack_from(
        data
    )
    if magic != LOCAL:
        raise RecordError("it does not begin as one")
    end = _LOCAL.size + n_name + n_extra
    if len(data) < end:
        raise RecordError("it is cut off")
    is_checked = _is_checked(data[:end])
    name = _name(data[_LOCAL.size : _LOCAL.size + n_name], flags)
    extra = _extra_64(data[_LOCAL.size + n_name : end])
    n_bytes, n_packed = _widened([n_bytes, n_packed], extra)
    entry = _checked(name, flags, Entry(offset, method, crc, n_packed, n_bytes))
    return Local(name, entry, end, bool(flags & _SIZES_FOLLOW), is_checked)


def pack_directory(entries: Mapping[str, Entry], offset: int) -> bytes:
    """Return central directory and end records, to be written at `offset`, behind the entries."""
    parts = [_pack_central(name, entry) for name, entry in entries.items()]
    n_bytes, n_entries = sum(map(len, parts)), len(parts)
    comment = _COMMENT % zlib.crc32(b"".join(parts))
    if n_entries >= _MAX_16 or offset >= _MAX_32 or n_bytes >= _MAX_32:
        counts = (n_entries, n_entries, n_bytes, offset)
        parts.append(_END_64.pack(END_64, _END_64.size - 12, _UNIX | 45, 45, 0, 0, *counts))
        parts.append(_LOCATOR_64.pack(LOCATOR_64, 0, offset + n_bytes, 1))
    shown = min(n_entries, _MAX_16)
    parts.append(
        _END.pack(
            END, 0, 0, shown, shown, min(n_bytes, _MAX_32), min(offset, _MAX_32), len(comment)
        )
    )
    return b"".join([*parts, comment])


class Directory(NamedTuple):
    """The location of a central directory, as its end record gives it.

    Attributes
    ----------
    offset, n_bytes, n_entries : int
    crc : int or None
        CRC-32 of its bytes, which this package writes into the comment; None of other programs.
    """

    offset: int
    n_bytes: int
    n_entries: int
    crc: int | None


def unpack_end(tail: bytes, at: int, tail_offset: int) -> Directory:
    """Return the location of the directory to which the end record at `tail[at:]` belongs.

    Raises
    ------
    RecordError
        If it is cut off, is of several disks, or its directory does not end just before it.
    """
    if len(tail) - at < _END.size:
        raise RecordError("it is cut off")
    _, disk, first_disk, n_here, n_entries, n_bytes, offset, n_comment = _END.unpack_from(tail, at)
    stop, shown = tail_offset + at, n_entries
    at_64 = at - _LOCATOR_64.size - _END_64.size
    if at_64 >= 0 and tail[at - _LOCATOR_64.size :][:4] == LOCATOR_64:
        found = _END_64.unpack_from(tail, at_64)
        if found[0] == END_64:
            n_entries, n_bytes, offset = found[7:]
            stop = tail_offset + at_64
    if offset + n_bytes != stop:
        raise RecordError(f"its directory is said to end at {offset + n_bytes}, expected {stop}")
    if {disk, first_disk} - {0, _MAX_16} or n_here != shown:
        raise RefusedError("it is one of several disks, which a store cannot be")
    comment = tail[at + _END.size : at + _END.size + n_comment]
    crc = int(comment[-8:], 16) if _OUR_COMMENT.fullmatch(comment) else None
    return Directory(offset, n_bytes, n_entries, crc)


def unpack_directory(data: bytes, directory: Directory) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of the central directory whose bytes are `data`.

    Raises
    ------
    RecordError
        If it is cut off, fails its checksum, or holds what a store may not hold.
    """
    if directory.crc not in (None, zlib.crc32(data)):
        raise RecordError("the central directory fails its checksum")
    at = 0
    for _ in range(directory.n_entries):
        if len(data) - at < _CENTRAL.size or data[at : at + 4] != CENTRAL:
            raise RecordError("the central directory is cut off")
        fields = _CENTRAL.unpack_from(data, at)
        flags, method, crc, n_packed, n_bytes = fields[3], fields[4], *fields[7:10]
        n_name, n_extra, n_comment, disk, offset = *fields[10:14], fields[16]
        start = at + _CENTRAL.size
        at = start + n_name + n_extra + n_comment
        if len(data) < at:
            raise RecordError("the central directory is cut off")
        if disk not in (0, _MAX_16):
            raise RefusedError("it is one of several disks, which a store cannot be")
        name = _name(data[start : start + n_name], flags)
        extra = _extra_64(data[start + n_name : start + n_name + n_extra])
        n_bytes, n_packed, offset = _widened([n_bytes, n_packed, offset], extra)
        entry = _checked(
            name, flags & ~_SIZES_FOLLOW, Entry(offset, method, crc, n_packed, n_bytes)
        )
        if not (name.endswith("/") and n_bytes == 0):  # folders, which other programs list
            yield name, entry
    if at != len(data):
        raise RecordError("the central directory is longer than its entries")


def central_nbytes(data: bytes) -> int:
    """Return the total length of the whole central headers at the start of `data`."""
    at, stop = 0, len(data)
    while at + _CENTRAL.size <= stop and data[at : at + 4] == CENTRAL:
        after = at + _CENTRAL.size + sum(_LENGTHS.unpack_from(data, at + 28))
        if after > stop:
            break
        at = after
    return at


def record_nbytes(data: bytes) -> int:
    """Return the length of the directory record at the start of `data`.

    Raises
    ------
    RecordError
        If there is none, or it is cut off.
    """
    kinds = {CENTRAL: _CENTRAL, END: _END, END_64: _END_64, LOCATOR_64: _LOCATOR_64}
    kind = kinds.get(data[:4])
    if kind is None:
        raise RecordError("it does not begin as a record")
    if len(data) < kind.size:
        raise RecordError("it is cut off")
    fields = kind.unpack_from(data)
    if kind is _CENTRAL:
        return int(_CENTRAL.size + sum(fields[10:13]))
    if kind is _END:
        return int(_END.size + fields[7])
    return int(12 + fields[1]) if kind is _END_64 else _LOCATOR_64.size


def inflate(packed: bytes, n_bytes: int) -> bytes:
    """Return the unpacked value of a deflated entry.

    Raises
    ------
    RecordError
        If it cannot be unpacked, or is not `n_bytes` long.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(packed, n_bytes + 1)
    except zlib.error as error:
        raise RecordError(f"it cannot be unpacked: {error}") from error
    if len(data) != n_bytes:
        raise RecordError(f"it does not unpack to {n_bytes} bytes, as it says")
    return data


def _pack_central(name: str, entry: Entry) -> bytes:
    encoded = name.encode()
    wide = [n for n in (entry.n_bytes, entry.n_packed, entry.offset) if n >= _MAX_32]
    extra = struct.pack(f"<2H{len(wide)}Q", _EXTRA_64, 8 * len(wide), *wide) if wide else b""
    header = _CENTRAL.pack(
        CENTRAL, _UNIX | (45 if wide else 20), 45 if wide else 20, _UTF8, entry.method, _TIME,
        _DATE, entry.crc, min(entry.n_packed, _MAX_32), min(entry.n_bytes, _MAX_32), len(encoded),
        len(extra), 0, 0, 0, _FILE_MODE, min(entry.offset, _MAX_32),
    )  # fmt: skip
    return b"".join([header, encoded, extra])


def _is_checked(header: bytes) -> bool:
    """Check a local header against its checksum; return False if it has none.

    Only headers of this package have one. The zip format has a checksum of the value, not of its
    name.
    """
    at = len(header) - _CRC_FIELD.size
    kind, length, crc = _CRC_FIELD.unpack_from(header, at)
    if (kind, length) != (_EXTRA_CRC, 4):
        return False
    if crc != zlib.crc32(header[:at]):
        raise RecordError("its header fails its checksum")
    return True


def _name(encoded: bytes, flags: int) -> str:
    try:
        name = encoded.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise RefusedError(f"it has a name that is not text: {encoded!r}") from error
    check_name(name)
    return name


def check_name(name: str) -> None:
    """Check that the name of an entry is a key. It is never used as a path.

    Raises
    ------
    RefusedError
        If it is not.
    """
    if name[1:2] == ":" or not layout.is_key(name):  # a drive is no key either
        raise RefusedError(f"it has an entry named {name!r}, which leads out of the store")


def _checked(name: str, flags: int, entry: Entry) -> Entry:
    if flags & _ENCRYPTED:
        raise RefusedError(f"its entry {name} is encrypted")
    if entry.method not in (STORED, DEFLATED):
        raise RefusedError(f"its entry {name} is packed by method {entry.method}; expected 0 or 8")
    is_possible = entry.n_bytes == entry.n_packed
    if entry.method == DEFLATED:
        is_possible = entry.n_bytes <= entry.n_packed * _MAX_INFLATION
    if not is_possible and not flags & _SIZES_FOLLOW:
        raise RefusedError(
            f"its entry {name} has an impossible size: {entry.n_bytes} bytes of {entry.n_packed}"
        )
    return entry


def _extra_64(extra: bytes) -> list[int]:
    """Return the 64-bit numbers of an extra field, for those too large for the header."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA_64:
            n = min(length, len(extra) - at - 4) // 8
            return list(struct.unpack_from(f"<{n}Q", extra, at + 4))
        at += 4 + length
    return []


def _widened(numbers: list[int], extra: list[int]) -> list[int]:
    left = iter(extra)
    return [next(left, n) if n == _MAX_32 else n for n in numbers]
