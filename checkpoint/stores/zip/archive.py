"""A zip file that is only appended to: written bytes are never changed.

Entries are appended and synced. The central directory and the end record are appended from time to
time, so that other zip programs can open the file at nearly any time. Values that were replaced or
removed stay in the file until `compact` writes the others to a new file that replaces it.
"""

import contextlib
import math
import os
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from checkpoint.errors import DamagedStoreError, NotARunError
from checkpoint.stores import durability
from checkpoint.stores.file_lock import is_guarded_taken
from checkpoint.stores.held import identity_at, identity_of, moved_error
from checkpoint.stores.zip.copying import copy_entries
from checkpoint.stores.zip.records import (
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
from checkpoint.stores.zip.scan import REMOVED, Scan, is_zip, local_at, read_at, scan, walk

__all__ = ["Archive", "Repair"]

_DIRECTORY_INTERVAL = 1.0

_SLACK = 4 << 20
"""Bytes that may be superseded before compacting is considered."""

_CENTRAL_NBYTES = 46


@dataclass(frozen=True)
class Repair:
    """The result of a check of all values in a file.

    Attributes
    ----------
    n_entries, n_bytes : int
        Number of values, and size of the file.
    has_walked : bool
        Whether entries were found by their headers, for lack of a directory at the end.
    n_torn : int
        Bytes at the end that are no whole record.
    damaged : list of str
        Descriptions of the damage, a line each.
    was_replaced : bool
        Whether `repair` replaces the file.
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
        Whether to open it for appending, and cut off a torn end. No other process may write it.
    within : int, optional
        Descriptor of the directory of `path`; the file is found in it even if the path changes.

    Raises
    ------
    FileNotFoundError
        If it does not exist, and is opened for reading.
    NotARunError
        If it is no zip file, or holds what a store may not hold.
    """

    def __init__(self, path: Path, writable: bool, within: int | None = None) -> None:
        self.path = path
        self._within = within
        self._file = path if within is None else Path(path.name)
        self.descriptor = -1
        self.descriptor = (
            durability.open_for_appending(self._file, pack_directory({}, 0), within)
            if writable
            else os.open(self._file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=within)
        )
        try:
            self._scan = self._read()
            stat = os.fstat(self.descriptor)
            self.identity = identity_of(stat)
            self.n_torn = stat.st_size - self._scan.end
            if writable:
                if self.n_torn:
                    self.keep_tail()
                    durability.cut(self.descriptor, self._scan.end)
                durability.make_file_durable(self.descriptor, self._file, within)
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
        """The current entries by key, in the order in which the keys were first written."""
        return self._scan.entries

    @property
    def found(self) -> Scan:
        """The scan of the file when it was opened, updated since."""
        return self._scan

    @property
    def n_superseded(self) -> int:
        """Bytes that compacting would save."""
        return self._scan.end - self._n_live

    @property
    def should_compact(self) -> bool:
        """Whether so many bytes are superseded that the file must be compacted.

        This bounds the space: while it is compacted, the old and the new file together take at
        most 2.5 times the bytes of the current entries, plus `_SLACK`.
        """
        return self.n_superseded > max(self._n_live // 2 + _SLACK, self._compact_above)

    def keep_tail(self) -> None:
        """Copy the bytes behind damage, which will be dropped, to a file beside this one."""
        if self._scan.is_cut_short:
            end = self._scan.end
            path = self._file.with_name(f"{self._file.name}.damaged-{end}")
            durability.replace(path, read_at(self.descriptor, self.n_torn, end), self._within)

    def catch_up(self) -> None:
        """Read the entries that another process has appended since the last scan."""
        size = os.fstat(self.descriptor).st_size
        if size > self._scan.end:
            walk(self.descriptor, size, self._scan, beyond_damage=False)

    def read(self, key: str) -> bytes | None:
        """Return a value after a check of its checksum, or None if the key has no value.

        Raises
        ------
        DamagedStoreError
            If the value cannot be read, or fails its checksum.
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
                raise RecordError("it fails its checksum")
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
        Durability: if it fails, what was written in part is cut off, at the latest by the next
        append.
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
        """Remove keys; their bytes stay in the file until it is compacted."""
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
        """Append directory and end record. They are not synced; the entries they list are."""
        if self._scan.directory_end < self._scan.end or not self._scan.end:
            self._append_bytes(pack_directory(self.entries, self._scan.end), sync=False)
            self._scan.directory_end = self._scan.end
        self._directory_written = time.monotonic()

    def check(self) -> Repair:
        """Check every value against its checksum."""
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
        """Replace this file by one that holds only the current entries.

        Raises
        ------
        StoreMovedError
            If another file is at its path.

        Notes
        -----
        Durability: after a crash at any time, either the old file or the new one is there, whole.
        """
        temporary = durability.temporary_beside(self._file)
        permissions = os.fstat(self.descriptor).st_mode & 0o7777
        descriptor = durability.make_temporary(temporary, permissions, self._within)
        try:
            entries, end = copy_entries(self.descriptor, descriptor, self.entries)
            directory = pack_directory(entries, end)
            durability.write_at(descriptor, end, directory)
            durability.sync(descriptor)
            is_guarded_taken(descriptor)  # succeeds: no other process knows this file
            if not self.is_at_path():
                raise moved_error(str(self.path), self.path)
            durability.publish(temporary, self._file, self._within)
        except BaseException:
            if self._is_there(descriptor):  # renamed, if not durably: later writes go there
                self._go_on_in(descriptor, entries, end + len(directory))
            else:
                os.close(descriptor)
                durability.remove(temporary, self._within)
                self._compact_above = self.n_superseded * 2
            raise
        self._go_on_in(descriptor, entries, end + len(directory))

    def is_at_path(self) -> bool:
        """Return whether this file is still the one at its path."""
        return self._is_there(self.descriptor)

    def _is_there(self, descriptor: int) -> bool:
        with contextlib.suppress(OSError):
            return identity_at(self._file, self._within) == identity_of(os.fstat(descriptor))
        return False

    def _go_on_in(self, descriptor: int, entries: dict[str, Entry], end: int) -> None:
        self.close()
        self.descriptor = descriptor
        self.identity = identity_of(os.fstat(descriptor))
        self._scan = Scan(entries, end, end)
        self._count_live()
        self._compact_above = 0
        self._directory_written = time.monotonic()

    def _read(self) -> Scan:
        if not is_zip(self.descriptor):
            raise NotARunError(
                f"{self.path} is not a zip file; nothing was changed. Give the path of a run, or "
                "one that does not exist yet."
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
            # The end of a partial write must not remain behind the next, shorter write.
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
        """Add or subtract the bytes that an entry takes, both in the file and in the directory."""
        if entry is not None:
            n_name = len(key.encode())
            self._n_directory += sign * (_CENTRAL_NBYTES + n_name)
            self._n_live += sign * (LOCAL_NBYTES + _CENTRAL_NBYTES + 2 * n_name + entry.n_packed)

    def _stay_findable(self, n_next: int) -> None:
        """Append a directory if `n_next` more bytes would put the last one out of reach.

        Other programs find an end record only if at most `FINDABLE` bytes follow it. A longer
        append would put any directory out of reach, so none is added before it. A directory that
        is longer than what was appended since the last one is not added yet, which keeps
        directories to a bounded share of the file.
        """
        n_behind = self._scan.end - self._scan.directory_end + n_next
        if n_next <= FINDABLE < n_behind and n_behind >= self._n_directory:
            self.write_directory()

    def _write_directory_if_due(self) -> None:
        self._stay_findable(0)
        is_late = time.monotonic() - self._directory_written >= _DIRECTORY_INTERVAL
        if is_late and self._n_directory <= FINDABLE:
            self.write_directory()
