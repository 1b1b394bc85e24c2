"""Find the entries of a zip file, whole or torn, by its end record and its local headers.

A file that grows has a directory and an end record from time to time, and entries behind the last
of them. Those entries are found by walking their local headers. If no end record can be trusted,
the headers of all entries are walked.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from checkpoint.stores.zip.records import (
    CENTRAL,
    DEFLATED,
    END,
    LOCAL,
    LONGEST_LOCAL,
    OUR_HEADER,
    TRAILER_NBYTES,
    Entry,
    Local,
    RecordError,
    RefusedError,
    central_nbytes,
    inflate,
    record_nbytes,
    unpack_directory,
    unpack_end,
    unpack_local,
)

__all__ = ["REMOVED", "Scan", "is_zip", "local_at", "read_at", "scan", "walk"]

REMOVED = ".removed"
"""Name of entries that list removed keys, separated by NUL. Directories do not list them."""

_WINDOW = 1 << 20
_USUAL_HEADER = 512
_MANY_RECORDS = 1 << 16


@dataclass
class Scan:
    """The entries of a file.

    Attributes
    ----------
    entries : dict of str to Entry
        The current entries by key, in the order in which the keys first appeared.
    end : int
        Offset at which the last whole record ends; the bytes behind it are torn.
    directory_end : int
        Offset at which the last end record ends, 0 if there is none.
    has_walked : bool
        Whether no end record could be trusted, so that all headers were walked.
    damaged : list of str
        Descriptions of the damage, a line each.
    is_cut_short : bool
        Whether there are whole entries behind `end`, after bytes that cannot be identified. Those
        bytes may have replaced or removed any value, so the entries behind them are not used.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    end: int = 0
    directory_end: int = 0
    has_walked: bool = False
    damaged: list[str] = field(default_factory=list)
    is_cut_short: bool = False


def is_zip(descriptor: int) -> bool:
    """Return whether a file begins with the signature of a zip file, or with a part of it."""
    start = os.pread(descriptor, 4, 0)
    return start == LOCAL[: len(start)] or start == END[: len(start)]


def scan(descriptor: int) -> Scan:
    """Return the entries that a file holds, and the damage in it.

    Raises
    ------
    RefusedError
        If it holds what a store may not hold.
    """
    size = os.fstat(descriptor).st_size
    found = _by_end_record(descriptor, size)
    if found is None:
        found = Scan(has_walked=True)
    walk(descriptor, size, found)
    if size and not found.end:
        _check_beginning(descriptor)
    return found


def walk(descriptor: int, size: int, found: Scan, beyond_damage: bool = True) -> None:
    """Add the entries behind `found.end`, up to the first record that is not whole.

    Parameters
    ----------
    descriptor, size : int
    found : Scan
        Changed in place.
    beyond_damage : bool
        Whether to look for whole entries behind a record that is not whole. A reader beside a
        writer need not: that record is still being written.

    Raises
    ------
    RefusedError
        If there is what a store may not hold.
    """
    at = found.end
    window = _Window(descriptor)
    while at < size:
        try:
            at = _step(window, size, at, found)
        except _TornError as error:
            behind = _next_whole(descriptor, size, at + 1) if beyond_damage else None
            if behind is None:
                return
            local = error.local
            if local is None or not (local.is_checked or behind == error.end):
                found.damaged.append(f"bytes {at} to {behind}: {error}; what follows is not used")
                found.is_cut_short = True
                return
            # Its header is correct, and names the value that cannot be read.
            if local.name != REMOVED:
                found.entries[local.name] = local.entry
            found.damaged.append(f"bytes {at} to {error.end}: {error}")
            at = error.end
        found.end = at


def read_at(descriptor: int, n: int, offset: int) -> bytes:
    """Return `n` bytes of a file, or as many as there are; one system call reads 2 GiB at most."""
    parts = []
    while n > 0:
        part = os.pread(descriptor, n, offset)
        if not part:
            break
        parts.append(part)
        n, offset = n - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def local_at(descriptor: int, offset: int, start: bytes) -> Local:
    """Return the local header at an offset; `start` holds its first bytes, read before.

    Raises
    ------
    RecordError
        If there is none.
    """
    try:
        return unpack_local(start, offset)
    except RecordError:
        return unpack_local(read_at(descriptor, LONGEST_LOCAL, offset), offset)


class _TornError(Exception):
    """A record that is cut off, or no record, or a value that fails its checksum."""

    def __init__(self, message: str, local: Local | None = None, end: int = 0) -> None:
        super().__init__(message)
        self.local = local
        self.end = end


class _Window:
    """Reads a file from front to back, each byte once, into a buffer that is reused."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115
        self._buffer = bytearray(_WINDOW)
        self._start = self._stop = 0

    def view(self, offset: int, n: int) -> memoryview:
        """Return `n` bytes, or as many as there are; the view is valid until the next call."""
        if not self._start <= offset or offset + n > self._stop:
            self._fill(offset, n)
        return memoryview(self._buffer)[offset - self._start :][: min(n, self._stop - offset)]

    def get(self, offset: int, n: int) -> bytes:
        """Return a copy of `n` bytes, or of as many as there are."""
        return bytes(self.view(offset, n))

    def _fill(self, offset: int, n: int) -> None:
        kept = b""
        if self._start <= offset < self._stop:
            kept = bytes(self._buffer[offset - self._start : self._stop - self._start])
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        self._buffer[: len(kept)] = kept
        self._start, self._stop = offset, offset + len(kept)
        self._file.seek(self._stop)
        view = memoryview(self._buffer)
        while self._stop < offset + n:
            n_read = self._file.readinto(view[self._stop - offset :])
            if not n_read:
                return
            self._stop += n_read


def _step(window: _Window, size: int, at: int, found: Scan) -> int:
    """Read the record at `at` and update `found`; return the offset at which the record ends."""
    head = window.get(at, _USUAL_HEADER)
    if head[:4] == CENTRAL:
        n_whole = central_nbytes(window.get(at, _MANY_RECORDS))
        if n_whole:
            return at + n_whole
    if head[:4] != LOCAL:
        try:
            end = at + record_nbytes(head)
        except RecordError as error:
            raise _TornError(str(error)) from None
        if end > size:
            raise _TornError("a record is cut off")
        if head[:4] == END:
            found.directory_end = end
        return end
    local = _read_local(window, head, at)
    start = at + local.header_nbytes
    end = start + local.entry.n_packed
    if local.sizes_follow:
        raise RefusedError(
            f"its end record is missing, and its entry {local.name} gives its size only after its "
            "bytes, so that the rest cannot be found"
        )
    if end > size:
        raise _TornError(f"{local.name} is cut off")
    if not _is_whole(window, start, local):
        raise _TornError(f"{local.name} fails its checksum", local, end)
    if local.name == REMOVED:
        value = window.get(start, local.entry.n_packed)
        if local.entry.method == DEFLATED:
            value = inflate(value, local.entry.n_bytes)
        for name in value.decode(errors="replace").split("\0"):
            found.entries.pop(name, None)
    elif not local.name.endswith("/"):
        found.entries[local.name] = local.entry
    return end


def _check_beginning(descriptor: int) -> None:
    """Check that a file without a whole record was begun by this package.

    Raises
    ------
    RefusedError
        If it was not: it is a file of another program, and must not be cut.
    """
    start = os.pread(descriptor, LONGEST_LOCAL, 0)
    if start[: len(OUR_HEADER)] == OUR_HEADER[: len(start)] or start[:4] == END[: len(start)]:
        return
    try:
        unpack_local(start, 0)
    except RefusedError:
        raise
    except RecordError:
        pass
    raise RefusedError("its first entry is not whole, and it was not begun by checkpoint")


def _read_local(window: _Window, head: bytes, at: int) -> Local:
    try:
        return unpack_local(head, at)
    except RecordError:
        pass  # a long name, perhaps
    try:
        return unpack_local(window.get(at, LONGEST_LOCAL), at)
    except RecordError as error:
        raise _TornError(str(error)) from None


def _is_whole(window: _Window, start: int, local: Local) -> bool:
    entry = local.entry
    if entry.method == DEFLATED:
        try:
            data = inflate(window.get(start, entry.n_packed), entry.n_bytes)
        except RecordError:
            return False
        return zlib.crc32(data) == entry.crc
    crc, left = 0, entry.n_packed
    while left:
        block = window.view(start, min(left, _WINDOW))
        if not len(block):
            return False
        crc = zlib.crc32(block, crc)
        start, left = start + len(block), left - len(block)
    return crc == entry.crc


def _next_whole(descriptor: int, size: int, at: int) -> int | None:
    """Return the offset of the next whole entry, or None if there is none.

    Raises
    ------
    RefusedError
        If so many bytes look like entries and are none that the file must have been crafted.
    """
    window = _Window(descriptor)
    left_to_check = 4 * size + (64 << 20)

    def is_whole(offset: int) -> bool:
        nonlocal left_to_check
        try:
            local = _read_local(window, window.get(offset, _USUAL_HEADER), offset)
        except _TornError:
            return False
        start = offset + local.header_nbytes
        if start + local.entry.n_packed > size or local.sizes_follow:
            return False
        left_to_check -= local.entry.n_packed
        if left_to_check < 0:
            raise RefusedError("it has too many places that look like entries and are not")
        return _is_whole(window, start, local)

    return _find(_Window(descriptor), size, at, is_whole)


def _find(window: _Window, size: int, at: int, accept: Callable[[int], bool]) -> int | None:
    while at < size:
        block = window.get(at, _WINDOW)
        start = block.find(LOCAL)
        while start >= 0:
            if accept(at + start):
                return at + start
            start = block.find(LOCAL, start + 1)
        if at + len(block) >= size or not block:
            return None
        at += len(block) - len(LOCAL) + 1
    return None


def _by_end_record(descriptor: int, size: int) -> Scan | None:
    """Return the entries of the last directory, or None if none near the end can be trusted."""
    tail_offset = max(0, size - TRAILER_NBYTES - 0xFFFF)
    tail = os.pread(descriptor, size - tail_offset, tail_offset)
    at = tail.rfind(END)
    while at >= 0:
        try:
            directory = unpack_end(tail, at, tail_offset)
            data = read_at(descriptor, directory.n_bytes, directory.offset)
            entries = dict(unpack_directory(data, directory))
        except RefusedError:
            raise
        except RecordError:
            pass  # a chance match, or the record of a zip file inside this one
        else:
            end = tail_offset + at + record_nbytes(tail[at:])
            if end <= size and all(
                entry.offset + entry.n_packed <= directory.offset for entry in entries.values()
            ):
                if sum(entry.n_packed for entry in entries.values()) > directory.offset:
                    raise RefusedError("its entries overlap")
                return Scan(entries, end, end)
        at = tail.rfind(END, 0, at)
    return None
