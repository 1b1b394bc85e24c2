"""A zip file that only grows: what is written once is never changed.

Entries are appended and synced. Directory and end record follow now and then, so that programs
that know no more than zip open the file at nearly any time. Values that were replaced or removed
stay, until `compact` writes what is left to a new file and puts it in the place of the old one.
"""

import math
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from checkpoint import durability
from checkpoint.errors import DamagedStoreError, NotARunError
from checkpoint.stores.zip_records import (
    DEFLATED,
    FINDABLE,
    LOCAL_NBYTES,
    STORED,
    Entry,
    RecordError,
    RefusedError,
    check_name,
    inflate,
    pack_directory,
    pack_local,
)
from checkpoint.stores.zip_scan import REMOVED, Scan, is_zip, local_at, read_at, scan, walk

__all__ = ["Archive", "Repair"]

_DIRECTORY_INTERVAL = 1.0

_SLACK = 4 << 20
"""Bytes that may be superseded before compacting is considered."""

_CENTRAL_NBYTES = 46
_BLOCK = 4 << 20


@dataclass(frozen=True)
class Repair:
    """What a look at every byte of a file found.

    Attributes
    ----------
    n_entries, n_bytes : int
        Values, and the bytes of the file.
    has_walked : bool
        Whether it had no directory at its end that could be trusted.
    n_torn : int
        Bytes of a record that was cut off, at the end.
    damaged : list of str
        What fails its checksum, a line each.
    was_replaced : bool
        Whether a mended file is to take its place.
    """

    n_entries: int
    n_bytes: int
    has_walked: bool
    n_torn: int
    damaged: list[str]
    was_replaced: bool


class Archive:
    """An open zip file.

    Parameters
    ----------
    path : Path
    writable : bool
        Whether to append to it. A torn end is cut off then. There must be no other writer.

    Raises
    ------
    FileNotFoundError
        If it is to be read and does not exist.
    NotARunError
        If it is no zip file, or one that a store cannot be.
    """

    def __init__(self, path: Path, writable: bool) -> None:
        self.path = path
        self.descriptor = -1
        self.descriptor = (
            durability.open_for_appending(path, pack_directory({}, 0))
            if writable
            else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        )
        try:
            self._scan = self._read()
            stat = os.fstat(self.descriptor)
            self.identity = _identity_of(stat)
            self.n_torn = stat.st_size - self._scan.end
            if writable:
                if self.n_torn:
                    self.keep_tail()
                    durability.cut(self.descriptor, self._scan.end)
                durability.settle_file(self.descriptor, path)
        except BaseException:
            self.close()
            raise
        self._count_live()
        self._directory_written = -math.inf
        self._compact_above = 0
        self._must_cut = False

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()

    @property
    def entries(self) -> dict[str, Entry]:
        """What it holds, in the order in which the keys first came."""
        return self._scan.entries

    @property
    def found(self) -> Scan:
        """What was found when it was opened, and what has come since."""
        return self._scan

    @property
    def n_superseded(self) -> int:
        """Bytes that compacting would save."""
        return self._scan.end - self._n_live

    @property
    def should_compact(self) -> bool:
        """Whether so much is superseded that it must be compacted to stay in proportion.

        While it is, there are two files, of at most 2.5 times what is left, and `_SLACK`.
        """
        return self.n_superseded > max(self._n_live // 2 + _SLACK, self._compact_above)

    def keep_tail(self) -> None:
        """Copy what is behind damage, and will be left out, to a file beside this one."""
        if self._scan.is_cut_short:
            end = self._scan.end
            path = self.path.with_name(f"{self.path.name}.damaged-{end}")
            durability.replace(path, read_at(self.descriptor, self.n_torn, end))

    def catch_up(self) -> None:
        """Take in what another process has appended since."""
        size = os.fstat(self.descriptor).st_size
        if size > self._scan.end:
            walk(self.descriptor, size, self._scan, beyond_damage=False)

    def read(self, key: str) -> bytes | None:
        """Return a value, held against its checksum.

        Raises
        ------
        DamagedStoreError
            If it does not hold.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        usual = LOCAL_NBYTES + len(key.encode())
        data = read_at(self.descriptor, usual + entry.n_packed, entry.offset)
        try:
            local = local_at(self.descriptor, entry.offset, data)
            if local.name != key:
                raise RecordError(f"there is {local.name}")
            packed = data[local.header_nbytes : local.header_nbytes + entry.n_packed]
            if len(packed) < entry.n_packed:  # others write extra fields
                start = entry.offset + local.header_nbytes
                packed = read_at(self.descriptor, entry.n_packed, start)
            value = inflate(packed, entry.n_bytes) if entry.method == DEFLATED else packed
            if len(value) != entry.n_bytes or zlib.crc32(value) != entry.crc:
                raise RecordError("its checksum does not hold")
        except RecordError as error:
            raise DamagedStoreError(
                f"{self.path}: {key}, at byte {entry.offset}, cannot be read: {error}. "
                "Restore the file from a copy."
            ) from error
        return value

    def append(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Add values; they are durable on return.

        Notes
        -----
        Durability: if it fails, the file is as it was.
        """
        parts, added, at = [], {}, 0
        for key, value in values:
            check_name(key)
            crc = zlib.crc32(value)
            header = pack_local(key, crc, len(value))
            parts += [header, value]
            added[key] = Entry(at, STORED, crc, len(value), len(value))
            at += len(header) + len(value)
        self._stay_findable(at)
        start = self._scan.end
        self._append_bytes(b"".join(parts), sync=True)
        for key, relative in added.items():
            entry = relative._replace(offset=start + relative.offset)
            self._count(key, self.entries.get(key), -1)
            self.entries[key] = entry
            self._count(key, entry, 1)
        self._write_directory_if_due()

    def remove(self, keys: Iterable[str]) -> None:
        """Take keys out of the store; their bytes stay until it is compacted."""
        gone = [key for key in keys if key in self.entries]
        if not gone:
            return
        listed = "\0".join(gone).encode()
        data = pack_local(REMOVED, zlib.crc32(listed), len(listed)) + listed
        self._stay_findable(len(data))
        self._append_bytes(data, sync=False)
        for key in gone:
            self._count(key, self.entries.pop(key), -1)
        self._write_directory_if_due()

    def write_directory(self) -> None:
        """Add directory and end record. Not synced: all that they list is."""
        if self._scan.directory_end < self._scan.end or not self._scan.end:
            self._append_bytes(pack_directory(self.entries, self._scan.end), sync=False)
            self._scan.directory_end = self._scan.end
        self._directory_written = time.monotonic()

    def check(self) -> Repair:
        """Hold every value against its checksum."""
        damaged = [*self.found.damaged]
        for key in () if self.found.has_walked else self.entries:  # a walk has checked them
            try:
                self.read(key)
            except DamagedStoreError as error:
                damaged.append(str(error))
        has_tail = self.found.directory_end < self.found.end
        return Repair(
            len(self.entries),
            os.fstat(self.descriptor).st_size,
            self.found.has_walked,
            self.n_torn,
            damaged,
            was_replaced=self.found.has_walked or has_tail or self.n_torn > 0,
        )

    def compact(self) -> None:
        """Put a file with only what is left in the place of this one.

        Notes
        -----
        Durability: whatever happens, the old file or the new one is there, whole.
        """
        temporary = durability.temporary_beside(self.path)
        permissions = os.fstat(self.descriptor).st_mode & 0o7777
        descriptor = durability.make_temporary(temporary, permissions)
        try:
            entries, end = _copy_entries(self.descriptor, descriptor, self.entries)
            directory = pack_directory(entries, end)
            durability.write_at(descriptor, end, directory)
            durability.sync(descriptor)
            durability.publish(temporary, self.path)
        except BaseException:
            if _is_at(descriptor, self.path):  # renamed, if not durably: what is written goes there
                self._go_on_in(descriptor, entries, end + len(directory))
            else:
                os.close(descriptor)
                durability.remove(temporary)
                self._compact_above = self.n_superseded * 2
            raise
        self._go_on_in(descriptor, entries, end + len(directory))

    def _go_on_in(self, descriptor: int, entries: dict[str, Entry], end: int) -> None:
        self.close()
        self.descriptor = descriptor
        self.identity = _identity_of(os.fstat(descriptor))
        self._scan = Scan(entries, end, end)
        self._count_live()
        self._compact_above = 0
        self._directory_written = time.monotonic()

    def _read(self) -> Scan:
        if not is_zip(self.descriptor):
            raise NotARunError(
                f"{self.path} is no zip file; nothing was changed. "
                "Give the path of a run, or one that does not exist yet."
            )
        try:
            return scan(self.descriptor)
        except RefusedError as error:
            raise NotARunError(
                f"{self.path} is a zip file that cannot be a store: {error}. "
                "Nothing was changed. Choose another path."
            ) from error

    def _append_bytes(self, data: bytes, sync: bool) -> None:
        end = self._scan.end
        if self._must_cut:
            durability.cut(self.descriptor, end)
            self._must_cut = False
        try:
            durability.write_at(self.descriptor, end, data)
            if sync:
                durability.sync(self.descriptor)
        except BaseException:
            # What was written in part must not stay behind what is written next.
            self._must_cut = True
            durability.cut(self.descriptor, end)
            self._must_cut = False
            raise
        self._scan.end = end + len(data)

    def _count_live(self) -> None:
        self._n_live = self._n_directory = 0
        for key, entry in self.entries.items():
            self._count(key, entry, 1)

    def _count(self, key: str, entry: Entry | None, sign: int) -> None:
        """Count what an entry takes, in its place and in the directory."""
        if entry is not None:
            n_name = len(key.encode())
            self._n_directory += sign * (_CENTRAL_NBYTES + n_name)
            self._n_live += sign * (LOCAL_NBYTES + _CENTRAL_NBYTES + 2 * n_name + entry.n_packed)

    def _stay_findable(self, n_next: int) -> None:
        """Add a directory if the last would be out of others' reach `n_next` bytes from now.

        More than that at once it cannot stay in reach of; one that is larger still is added
        as seldom as keeps it in proportion.
        """
        n_behind = self._scan.end - self._scan.directory_end + n_next
        if n_next <= FINDABLE < n_behind and n_behind >= self._n_directory:
            self.write_directory()

    def _write_directory_if_due(self) -> None:
        self._stay_findable(0)
        is_late = time.monotonic() - self._directory_written >= _DIRECTORY_INTERVAL
        if is_late and self._n_directory <= FINDABLE:
            self.write_directory()


def _copy_entries(
    source: int, target: int, entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], int]:
    """Copy entries to the start of another file; return them as they are there, and the end."""
    moved: dict[str, Entry] = {}
    waiting: list[bytes] = []
    at = written = n_waiting = 0
    for key, entry in entries.items():
        header = pack_local(key, entry.crc, entry.n_bytes, entry.method, entry.n_packed)
        moved[key] = entry._replace(offset=at)
        start = entry.offset + _header_nbytes(source, key, entry, len(header))
        at += len(header) + entry.n_packed
        waiting.append(header)
        n_waiting += len(header)
        left = entry.n_packed
        while left:
            block = os.pread(source, min(left, _BLOCK), start)
            if not block:
                raise DamagedStoreError(f"{key} is cut off at byte {start}.")
            waiting.append(block)
            n_waiting += len(block)
            start, left = start + len(block), left - len(block)
            if n_waiting >= _BLOCK:
                written, n_waiting = _write_all(target, written, waiting), 0
    return moved, _write_all(target, written, waiting)


def _write_all(target: int, offset: int, waiting: list[bytes]) -> int:
    data = b"".join(waiting)
    waiting.clear()
    durability.write_at(target, offset, data)
    return offset + len(data)


def _header_nbytes(source: int, key: str, entry: Entry, usual: int) -> int:
    """Return the length of a local header; that which ours have, if it is damaged."""
    try:
        local = local_at(source, entry.offset, os.pread(source, usual, entry.offset))
    except RecordError:
        return usual
    return local.header_nbytes if local.name == key else usual


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return _identity_of(os.stat(path)) == _identity_of(os.fstat(descriptor))
    except OSError:
        return False


def _identity_of(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
