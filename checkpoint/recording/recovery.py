"""Find what a chain has recorded: its sealed chunks, then its log up to the first gap or damage."""

import re
from bisect import bisect_left

from checkpoint.errors import DamagedStoreError, too_large
from checkpoint.format import layout
from checkpoint.format.arrays import TEXT
from checkpoint.format.log_entry import Entry, EntryError, decode
from checkpoint.format.manifest import Manifest
from checkpoint.format.unpacking import most_text_nbytes
from checkpoint.recording.record import ChainRecord, Damage, read_draw_idx
from checkpoint.stores import Store

__all__ = ["recover", "recover_all"]

_COUNT = re.compile("0|[1-9][0-9]{0,17}")

# A live writer may seal between the reads of draw_idx and of the log; then both are read again.
_MAX_LOOKS = 20


def recover(
    store: Store, manifest: Manifest, chain: int, n_whole: int | None = None
) -> ChainRecord:
    """Read what one chain has recorded.

    It is safe beside a live writer, and then returns a prefix of the draws that are written.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    chain : int
    n_whole : int, optional
        The count of sealed draws that was just read, if their chunks are known to exist.

    Raises
    ------
    DamagedStoreError
        If the count of sealed draws is missing or damaged.
    """
    damage = None
    for _ in range(_MAX_LOOKS):
        record = _look(store, manifest, chain, n_whole)
        # If the count is unchanged, nothing was sealed meanwhile. Damage must be found twice: an
        # entry that is missing once may have been merged into an earlier one.
        is_unchanged = read_draw_idx(store, manifest, chain) == record.n_counted
        if is_unchanged and record.damage == damage:
            break
        damage = record.damage
        n_whole = None
    return record


def recover_all(store: Store, manifest: Manifest) -> list[ChainRecord]:
    """Return what every chain of a run has recorded.

    Missing chunks are looked up once for all chains. The log of a chain whose draws are all sealed
    is not read.
    """
    counts = [read_draw_idx(store, manifest, chain) for chain in range(manifest.chains)]
    keys = [_last_chunks(manifest, chain, n) for chain, n in enumerate(counts)]
    absent = set(store.missing([key for of_chain in keys for key in of_chain]))
    records = []
    for chain, n in enumerate(counts):
        is_whole = absent.isdisjoint(keys[chain])
        if is_whole and n == manifest.total:
            records.append(ChainRecord(store, manifest, chain, n, n, (), None, ()))
        else:
            records.append(recover(store, manifest, chain, n if is_whole else None))
    return records


def _last_chunks(manifest: Manifest, chain: int, n_counted: int) -> list[str]:
    """Return the keys of the chunks that hold the last sealed draw of a chain."""
    if not n_counted:
        return []
    chunk = manifest.grid.chunk_at(n_counted - 1)
    return manifest.chunk_keys(chain, chunk.idx, chunk.warmup)


def _look(store: Store, manifest: Manifest, chain: int, n_whole: int | None) -> ChainRecord:
    if n_whole is None:
        n_counted = read_draw_idx(store, manifest, chain)
        n_sealed, lost_chunk = _whole_chunks(store, manifest, chain, n_counted)
    else:
        n_counted, n_sealed, lost_chunk = n_whole, n_whole, ""
    starts = [
        start
        for name in store.names(layout.log_folder(chain))
        if (start := layout.start_of_log_entry(name)) is not None
    ]
    entries, reason = _readable_entries(store, manifest, chain, starts, n_sealed)
    expected = entries[-1].stop_draw_idx if entries else n_sealed
    read = {entry.first_draw_idx for entry in entries}
    stale = [start for start in starts if start < expected and start not in read]
    left = [start for start in starts if start >= expected]
    damage = None
    if reason or expected < n_counted:
        stop = max(n_counted, _last_readable_stop(store, manifest, chain, left, expected))
        key = layout.log_entry(chain, expected)
        if expected < n_counted:
            key, reason = lost_chunk, "the chunk is missing"
        keys = tuple(layout.log_entry(chain, start) for start in left)
        damage = Damage(key, reason, stop - expected, keys)
    stale_keys = tuple(layout.log_entry(chain, start) for start in stale)
    return ChainRecord(
        store, manifest, chain, n_counted, n_sealed, tuple(entries), damage, stale_keys
    )


def _whole_chunks(store: Store, manifest: Manifest, chain: int, n_counted: int) -> tuple[int, str]:
    """Return how many rows the chunks hold, and the key of the first missing chunk, if any.

    A zip file that was cut off has its first chunks and lacks its last ones. Each folder is listed
    only once, so that a count which is far too large takes no longer than others.
    """
    n_sealed = n_counted
    present: dict[str, list[int]] = {}
    while n_sealed:
        chunk = manifest.grid.chunk_at(n_sealed - 1)
        absent = store.missing(manifest.chunk_keys(chain, chunk.idx, chunk.warmup))
        if not absent:
            break
        folder = absent[0].rpartition("/")[0]
        if folder not in present:
            present[folder] = _chunks_in(store, folder, chain)
        n_before = bisect_left(present[folder], chunk.idx)
        idx = present[folder][n_before - 1] + 1 if n_before else 0
        n_sealed = manifest.grid.chunk(chunk.warmup, idx).first
    if n_sealed == n_counted:
        return n_sealed, ""
    chunk = manifest.grid.chunk_at(n_sealed)
    return n_sealed, store.missing(manifest.chunk_keys(chain, chunk.idx, chunk.warmup))[0]


def _chunks_in(store: Store, folder: str, chain: int) -> list[int]:
    """Return the indices along the draws of a chain's chunks in the folder of an array."""
    found = []
    for name in store.names(folder):
        numbers = name.removeprefix("c.").split(".")
        if len(numbers) > 1 and numbers[0] == str(chain) and _COUNT.fullmatch(numbers[1]):
            found.append(int(numbers[1]))
    return sorted(found)


def _readable_entries(
    store: Store, manifest: Manifest, chain: int, starts: list[int], n_sealed: int
) -> tuple[list[Entry], str]:
    """Return the log entries that continue the chunks, and what is wrong with the next one."""
    entries: list[Entry] = []
    expected = n_sealed
    for start in starts:
        if start < expected:
            continue
        if start > expected:
            return entries, f"the entry of draw {expected} is missing"
        try:
            entry = _read_entry(store, manifest, chain, start)
        except EntryError as error:
            return entries, str(error)
        entries.append(entry)
        expected = entry.stop_draw_idx
    return entries, ""


def _read_entry(store: Store, manifest: Manifest, chain: int, start: int) -> Entry:
    try:
        data = store.read(layout.log_entry(chain, start))
    except DamagedStoreError as error:
        raise EntryError(str(error)) from error
    if data is None:
        raise EntryError("it is missing")
    try:
        entry = decode(data, *_bounds(manifest, start, len(data)))
    except MemoryError as error:
        raise too_large(store.name, layout.log_entry(chain, start), error) from error
    if entry.run_id != manifest.run_id:
        raise EntryError("it is of another run")
    if (entry.chain, entry.first_draw_idx) != (chain, start):
        raise EntryError(f"it is of chain {entry.chain}, draw {entry.first_draw_idx}")
    if entry.n_rows < 1 or entry.columns != manifest.columns:
        raise EntryError("its columns are not those of this run")
    return entry


def _bounds(manifest: Manifest, start: int, n_packed: int) -> tuple[int, int]:
    """Return the most rows and bytes an entry can hold, as it ends no later than its chunk."""
    n_rows = max(0, min(manifest.grid.chunk_at(start).stop, manifest.total) - start)
    numbers = sum(column.nbytes for column in manifest.columns if column.dtype != TEXT)
    has_text = any(column.dtype == TEXT for column in manifest.columns)
    room = most_text_nbytes(n_packed) if has_text else 0
    return n_rows, 2 * len(manifest.column_list) + n_rows * numbers + room


def _last_readable_stop(
    store: Store, manifest: Manifest, chain: int, starts: list[int], expected: int
) -> int:
    """Return one past the last draw that entries from `expected` on are known to hold."""
    stop = expected
    for start in starts:
        if start >= expected:
            stop = max(stop, start + 1)
            try:
                stop = max(stop, _read_entry(store, manifest, chain, start).stop_draw_idx)
            except EntryError:
                continue
    return stop
