"""What a chain has recorded: its sealed chunks, then its log up to the first gap or damage."""

import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from checkpoint import layout
from checkpoint.arrays import TEXT
from checkpoint.commit_log import Entry, EntryError, decode
from checkpoint.errors import DamagedStoreError, DamageWarning, RunLockedError
from checkpoint.manifest import Manifest
from checkpoint.rows import Column, Values
from checkpoint.stores import Store
from checkpoint.unpacking import most_text_nbytes

__all__ = ["ChainRecord", "Damage", "recover", "recover_all", "warn_of_damage"]

_COUNT = re.compile("0|[1-9][0-9]{0,17}")

# A live writer may seal between our look at draw_idx and at the log; then we look again.
_MAX_LOOKS = 20


@dataclass(frozen=True)
class Damage:
    """A chunk or log entry that cannot be read, and what lies behind it.

    Attributes
    ----------
    key : str
        The first that cannot be read.
    reason : str
    n_lost : int
        Draws that were recorded in it and after it, as far as is known.
    keys : tuple of str
        All log entries from there on.
    """

    key: str
    reason: str
    n_lost: int
    keys: tuple[str, ...]

    def describe(self, store: str, chain: int) -> str:
        """Return what was lost, for people."""
        return (
            f"{store}: {self.key} of chain {chain} cannot be read ({self.reason}). "
            f"{self.n_lost} draws of that chain are lost"
        )


class ChainRecord:
    """The recorded rows of one chain; a `RowSource`.

    Attributes
    ----------
    n_counted : int
        Rows that are said to be in chunks, warm-up included.
    n_sealed : int
        Rows that are; fewer where a file has lost its end.
    n_rows : int
        Recorded rows, warm-up included.
    damage : Damage or None
    stale_keys : tuple of str
        Log entries whose rows are sealed, or in the entry before them.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        chain: int,
        n_counted: int,
        n_sealed: int,
        entries: tuple[Entry, ...],
        damage: Damage | None,
        stale_keys: tuple[str, ...],
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.chain = chain
        self.n_counted = n_counted
        self.n_sealed = n_sealed
        self.entries = entries
        self.damage = damage
        self.stale_keys = stale_keys
        self.n_rows = entries[-1].stop_draw_idx if entries else n_sealed
        self._columns = {column.path: column for column in manifest.columns}
        # Reading one row touches one chunk of each column; reading the next, the same ones, or
        # those behind them.
        n_kept = 2 * len(manifest.columns)
        self._chunk: Callable[[str, bool, int], Values] = lru_cache(n_kept)(self._read_chunk)

    def value(self, path: str, draw_idx: int) -> Any:
        """Return a column's value at one row."""
        if self._columns[path].per_commit:
            return self._per_commit_value(path, draw_idx)
        return self.values(path, draw_idx, draw_idx + 1)[0]

    def values(self, path: str, start: int, stop: int) -> Values:
        """Return a column's values at rows from `start` to `stop`, shape ``(n, *shape)``."""
        column = self._columns[path]
        if not 0 <= start <= stop <= self.n_rows:
            raise IndexError(f"rows {start} to {stop} of {self.n_rows}")
        if column.per_commit:
            raise DamagedStoreError(f"{path} is kept at commits only, not for every draw.")
        try:
            values = column.empty(stop - start)
        except (MemoryError, ValueError) as error:
            raise DamagedStoreError(
                f"{self.store.name}: {path} is said to have {stop - start} draws in chain "
                f"{self.chain}, for which there is no room: {error}. Nothing was changed."
            ) from error
        for at, block in self._blocks(column, start, stop):
            values[at - start : at - start + len(block)] = block
        return values

    def rows(self, start: int, stop: int) -> dict[str, Values]:
        """Return the rows from `start` to `stop` by column."""
        rows = {}
        for column in self.manifest.columns:
            if column.per_commit:
                rows[column.path] = column.empty(1)
                if stop > start:
                    rows[column.path][0] = self._per_commit_value(column.path, stop - 1)
            else:
                rows[column.path] = self.values(column.path, start, stop)
        return rows

    def _blocks(self, column: Column, start: int, stop: int) -> Any:
        at = start
        while at < min(stop, self.n_sealed):
            warmup, chunk_idx, first, capacity = self.manifest.chunk_of(at)
            end = min(first + capacity, stop, self.n_sealed)
            yield at, self._chunk(column.path, warmup, chunk_idx)[at - first : end - first]
            at = end
        for entry in self.entries:
            low, high = max(at, entry.first_draw_idx), min(stop, entry.stop_draw_idx)
            if low < high:
                yield low, entry.values(column.path, low, high)

    def _per_commit_value(self, path: str, draw_idx: int) -> Any:
        for entry in self.entries:
            if entry.stop_draw_idx == draw_idx + 1:
                return entry.data[path][0]
        warmup, chunk_idx, first, capacity = self.manifest.chunk_of(draw_idx)
        if draw_idx + 1 == min(first + capacity, self.n_sealed):
            value = self._chunk(path, warmup, chunk_idx)[0]
            is_partial = draw_idx + 1 < first + capacity
            if is_partial and _counted(self.store, self.manifest, self.chain) > self.n_counted:
                raise RunLockedError(
                    f"{self.store.name} is being written: {path} after draw {draw_idx} of chain "
                    f"{self.chain} was replaced by that of a later draw. Do this again."
                )
            return value
        raise DamagedStoreError(
            f"{self.store.name}: {path} of chain {self.chain} is kept at commits only; "
            f"draw {draw_idx} is none."
        )

    def _read_chunk(self, path: str, warmup: bool, chunk_idx: int) -> Values:
        column = self._columns[path]
        spec = self.manifest.spec(column, warmup)
        index = self.manifest.chunk_index(column, self.chain, chunk_idx)
        try:
            chunk: Values = spec.read_chunk(self.store, *index)[0]
        except DamagedStoreError as error:
            start, stop = self.manifest.chunk_range(warmup, chunk_idx)
            raise DamagedStoreError(
                f"{error} It holds draws {start} to {min(stop, self.n_sealed) - 1} of chain "
                f"{self.chain}; no other draw is affected."
            ) from error
        return chunk[(slice(None), *(slice(0, n) for n in column.shape))]


def recover(store: Store, manifest: Manifest, chain: int) -> ChainRecord:
    """Read what one chain has recorded.

    Safe beside a live writer, of which it sees a prefix.

    Raises
    ------
    DamagedStoreError
        If the count of sealed draws is missing or damaged.
    """
    damage = None
    for _ in range(_MAX_LOOKS):
        record = _look(store, manifest, chain)
        # Unchanged: nothing was sealed while we looked. What is missing twice is damage; once,
        # an entry may have been merged into the one before it.
        is_settled = read_draw_idx(store, manifest, chain) == record.n_counted
        if is_settled and record.damage == damage:
            break
        damage = record.damage
    return record


def recover_all(store: Store, manifest: Manifest) -> list[ChainRecord]:
    """Return what every chain of a run has recorded."""
    return [recover(store, manifest, chain) for chain in range(manifest.chains)]


def warn_of_damage(records: Sequence[ChainRecord], stacklevel: int) -> None:
    """Warn of recorded draws that were lost; `stacklevel` as seen by the caller."""
    for text in records[0].store.noticed():
        warnings.warn(
            f"{records[0].store.name}: {text}. Draws that were recorded there are lost; "
            "checkpoint.sample draws them again.",
            DamageWarning,
            stacklevel=stacklevel + 1,
        )
    for record in records:
        if record.damage is not None and record.damage.n_lost:
            warnings.warn(
                f"{record.damage.describe(record.store.name, record.chain)}. "
                "checkpoint.sample draws them again.",
                DamageWarning,
                stacklevel=stacklevel + 1,
            )


def read_draw_idx(store: Store, manifest: Manifest, chain: int) -> int:
    """Return the number of sealed draws of a chain, warm-up included."""
    n_sealed = _counted(store, manifest, chain)
    if not 0 <= n_sealed <= manifest.total:
        raise DamagedStoreError(
            f"{store.name}: {manifest.draw_idx_spec().chunk_key(chain)} counts {n_sealed} sealed "
            f"draws of chain {chain}; expected 0 to {manifest.total}. Restore that file from a "
            "copy."
        )
    return n_sealed


def _counted(store: Store, manifest: Manifest, chain: int) -> int:
    try:
        return int(manifest.draw_idx_spec().read_chunk(store, chain)[0])
    except DamagedStoreError as error:
        raise DamagedStoreError(
            f"{error} It counts the sealed draws of chain {chain}, which cannot be read without it."
        ) from error


def _look(store: Store, manifest: Manifest, chain: int) -> ChainRecord:
    n_counted = read_draw_idx(store, manifest, chain)
    n_sealed, lost_chunk = _whole_chunks(store, manifest, chain, n_counted)
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
    """Return how many rows the chunks hold, and the first chunk that is missing at their end.

    A file that was cut off has its first chunks and lacks its last. Which chunks there are is
    asked for once, so that a count of what never was is seen as soon as any other.
    """
    n_sealed = n_counted
    present: dict[str, list[int]] = {}
    while n_sealed:
        warmup, chunk_idx, _, _ = manifest.chunk_of(n_sealed - 1)
        absent = store.missing(manifest.chunk_keys(chain, chunk_idx, warmup))
        if not absent:
            break
        folder = absent[0].rpartition("/")[0]
        if folder not in present:
            present[folder] = _chunks_in(store, folder, chain)
        start, size = (0, manifest.warmup_chunk) if warmup else (manifest.tune, manifest.chunk)
        n_before = bisect_left(present[folder], chunk_idx)
        n_sealed = start + (present[folder][n_before - 1] + 1) * size if n_before else start
    if n_sealed == n_counted:
        return n_sealed, ""
    warmup, chunk_idx, _, _ = manifest.chunk_of(n_sealed)
    return n_sealed, store.missing(manifest.chunk_keys(chain, chunk_idx, warmup))[0]


def _chunks_in(store: Store, folder: str, chain: int) -> list[int]:
    """Return the places along the draws at which a chain has chunks in the folder of an array."""
    found = []
    for name in store.names(folder):
        numbers = name.removeprefix("c.").split(".")
        if len(numbers) > 1 and numbers[0] == str(chain) and _COUNT.fullmatch(numbers[1]):
            found.append(int(numbers[1]))
    return sorted(found)


def _readable_entries(
    store: Store, manifest: Manifest, chain: int, starts: list[int], n_sealed: int
) -> tuple[list[Entry], str]:
    """Return the entries that follow on the chunks, and why the next one does not."""
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
    entry = decode(data, *_bounds(manifest, start, len(data)))
    if entry.run_id != manifest.run_id:
        raise EntryError("it is of another run")
    if (entry.chain, entry.first_draw_idx) != (chain, start):
        raise EntryError(f"it is of chain {entry.chain}, draw {entry.first_draw_idx}")
    if entry.n_rows < 1 or entry.columns != manifest.columns:
        raise EntryError("its columns are not those of this run")
    return entry


def _bounds(manifest: Manifest, start: int, n_packed: int) -> tuple[int, int]:
    """Return how many rows an entry can hold, and in how many bytes: it ends where a chunk does."""
    _, _, first, capacity = manifest.chunk_of(start)
    n_rows = max(0, min(first + capacity, manifest.total) - start)
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
