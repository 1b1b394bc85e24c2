"""What a chain has recorded: its sealed chunks, then its log up to the first gap or damage."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from checkpoint import layout
from checkpoint.commit_log import Entry, EntryError, decode
from checkpoint.errors import DamagedStoreError
from checkpoint.manifest import Manifest
from checkpoint.rows import Column, Values
from checkpoint.stores import Store

__all__ = ["ChainRecord", "Damage", "recover"]

# A live writer may seal between our look at draw_idx and at the log; then we look again.
_MAX_LOOKS = 20


@dataclass(frozen=True)
class Damage:
    """Log entries that cannot be read, and those behind them.

    Attributes
    ----------
    key : str
        The first entry that cannot be read.
    reason : str
    n_lost : int
        Draws that were recorded in it and after it, as far as later entries tell.
    keys : tuple of str
        All entries from there on.
    """

    key: str
    reason: str
    n_lost: int
    keys: tuple[str, ...]


class ChainRecord:
    """The recorded rows of one chain; a `RowSource`.

    Attributes
    ----------
    n_sealed : int
        Rows in chunks, warm-up included.
    n_rows : int
        Recorded rows, warm-up included.
    damage : Damage or None
    stale_keys : tuple of str
        Log entries whose rows are sealed.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        chain: int,
        n_sealed: int,
        entries: tuple[Entry, ...],
        damage: Damage | None,
        stale_keys: tuple[str, ...],
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.chain = chain
        self.n_sealed = n_sealed
        self.entries = entries
        self.damage = damage
        self.stale_keys = stale_keys
        self.n_rows = entries[-1].stop_draw_idx if entries else n_sealed
        self._columns = {column.path: column for column in manifest.columns}
        # Reading one row touches one chunk of each column; reading the next, the same ones.
        self._chunk: Callable[[str, bool, int], Values] = lru_cache(maxsize=1024)(self._read_chunk)

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
        values = column.empty(stop - start)
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
            return self._chunk(path, warmup, chunk_idx)[0]
        raise DamagedStoreError(
            f"{self.store.name}: {path} of chain {self.chain} is kept at commits only; "
            f"draw {draw_idx} is none."
        )

    def _read_chunk(self, path: str, warmup: bool, chunk_idx: int) -> Values:
        column = self._columns[path]
        spec = self.manifest.spec(column, warmup)
        index = (self.chain, chunk_idx, *(0 for _ in column.shape))
        chunk: Values = spec.read_chunk(self.store, *index)[0]
        return chunk[(slice(None), *(slice(0, n) for n in column.shape))]


def recover(store: Store, manifest: Manifest, chain: int) -> ChainRecord:
    """Read what one chain has recorded.

    Safe beside a live writer, of which it sees a prefix.

    Raises
    ------
    DamagedStoreError
        If the count of sealed draws is missing or damaged.
    """
    for _ in range(_MAX_LOOKS):
        record = _look(store, manifest, chain)
        # Unchanged: nothing was sealed, and no entry went away, while we looked.
        if read_draw_idx(store, manifest, chain) == record.n_sealed:
            break
    return record


def read_draw_idx(store: Store, manifest: Manifest, chain: int) -> int:
    """Return the number of sealed draws of a chain, warm-up included."""
    spec = manifest.draw_idx_spec()
    n_sealed = int(spec.read_chunk(store, chain)[0])
    if not 0 <= n_sealed <= manifest.total:
        raise DamagedStoreError(
            f"{store.name}: {spec.chunk_key(chain)} counts {n_sealed} sealed draws; expected 0 to "
            f"{manifest.total}. Restore that file from a copy."
        )
    return n_sealed


def _look(store: Store, manifest: Manifest, chain: int) -> ChainRecord:
    n_sealed = read_draw_idx(store, manifest, chain)
    folder = layout.log_folder(chain)
    starts = [
        start
        for name in store.names(folder)
        if (start := layout.start_of_log_entry(name)) is not None
    ]
    stale = tuple(layout.log_entry(chain, start) for start in starts if start < n_sealed)
    entries: list[Entry] = []
    expected, reason = n_sealed, ""
    waiting = [start for start in starts if start >= n_sealed]
    for start in waiting:
        if start != expected:
            reason = f"the entry of draw {expected} is missing"
            break
        try:
            entry = _read_entry(store, manifest, chain, start)
        except EntryError as error:
            reason = str(error)
            break
        entries.append(entry)
        expected = entry.stop_draw_idx
    damage = None
    left = tuple(layout.log_entry(chain, start) for start in waiting if start >= expected)
    if reason:
        n_lost = _last_readable_stop(store, manifest, chain, waiting, expected) - expected
        key = layout.log_entry(chain, expected)
        damage = Damage(key, reason, n_lost, left)
    return ChainRecord(store, manifest, chain, n_sealed, tuple(entries), damage, stale)


def _read_entry(store: Store, manifest: Manifest, chain: int, start: int) -> Entry:
    data = store.get(layout.log_entry(chain, start))
    if data is None:
        raise EntryError("it is missing")
    entry = decode(data)
    if entry.run_id != manifest.run_id:
        raise EntryError("it is of another run")
    if (entry.chain, entry.first_draw_idx) != (chain, start):
        raise EntryError(f"it is of chain {entry.chain}, draw {entry.first_draw_idx}")
    if entry.n_rows < 1 or entry.columns != manifest.columns:
        raise EntryError("its columns are not those of this run")
    return entry


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
