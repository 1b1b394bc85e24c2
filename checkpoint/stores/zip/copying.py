"""Copy the entries of one zip file to another, without unpacking them."""

import os
from collections.abc import Mapping

from checkpoint.errors import DamagedStoreError
from checkpoint.stores import durability
from checkpoint.stores.zip.records import Entry, RecordError, pack_local
from checkpoint.stores.zip.scan import local_at

__all__ = ["copy_entries"]

_BLOCK = 4 << 20


def copy_entries(
    source: int, target: int, entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], int]:
    """Copy entries to the start of another file; return them with new offsets, and their end."""
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
    """Return the length of a local header; if it is damaged, `usual`, the length of ours."""
    try:
        local = local_at(source, entry.offset, os.pread(source, usual, entry.offset))
    except RecordError:
        return usual
    return local.header_nbytes if local.name == key else usual
