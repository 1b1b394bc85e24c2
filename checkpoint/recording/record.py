"""The recorded rows of a chain, as found when a run is opened, and the damage in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from checkpoint.errors import (
    DamagedStoreError,
    DamageWarning,
    RunLockedError,
    too_large,
    warn_caller,
)
from checkpoint.format.log_entry import Entry
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Column, Values
from checkpoint.hierarchy.nodes import read_chunk
from checkpoint.stores import Store

__all__ = ["ChainRecord", "Damage", "read_draw_idx", "warn_of_damage"]


@dataclass(frozen=True)
class Damage:
    """A chunk or log entry that cannot be read, and the draws that are lost with it.

    Attributes
    ----------
    key : str
        Key of the first chunk or log entry that cannot be read.
    reason : str
    n_lost : int
        Draws that were recorded in it and after it, as far as is known.
    keys : tuple of str
        Keys of all log entries from there on.
    """

    key: str
    reason: str
    n_lost: int
    keys: tuple[str, ...]

    def describe(self, store: str, chain: int) -> str:
        """Return the part of a message that says what was lost."""
        return (
            f"{store}: {self.key} of chain {chain} cannot be read ({self.reason}). "
            f"{self.n_lost} draws of that chain are lost"
        )


class ChainRecord:
    """The recorded rows of one chain; a `RowSource`.

    Attributes
    ----------
    n_counted : int
        Rows in chunks by the stored count, warm-up included.
    n_sealed : int
        Rows that are in chunks; fewer than `n_counted` if chunks are missing.
    n_rows : int
        Recorded rows, warm-up included.
    damage : Damage or None
    stale_keys : tuple of str
        Keys of log entries whose rows are in chunks, or in an earlier entry.
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
        # Reading one row touches one chunk of each column; reading the next row touches the same
        # chunks or the next ones.
        n_kept = 2 * len(manifest.columns)
        self._chunk: Callable[[str, bool, int], Values] = lru_cache(n_kept)(self._read_chunk)

    def value(self, path: str, draw_idx: int) -> Any:
        """Return a column's value at one row."""
        if self._columns[path].per_commit:
            return self._per_commit_value(path, draw_idx)
        return self.values(path, draw_idx, draw_idx + 1)[0]

    def values(self, path: str, start: int, stop: int, n_before: int = 0) -> Values:
        """Return a column's values at rows from `start` to `stop`, shape ``(n, *shape)``.

        The array begins with room for `n_before` more values, which are not read.
        """
        column = self._columns[path]
        if not 0 <= start <= stop <= self.n_rows:
            raise IndexError(f"rows {start} to {stop} of {self.n_rows}")
        if column.per_commit:
            raise DamagedStoreError(f"{path} is kept at commits only, not for every draw.")
        try:
            values = column.empty(n_before + stop - start)
        except MemoryError as error:
            what = f"{path} of chain {self.chain} with {stop - start} draws"
            raise too_large(self.store.name, what, error) from error
        except ValueError as error:
            raise DamagedStoreError(
                f"{self.store.name}: the metadata says that {path} has {stop - start} draws in "
                f"chain {self.chain}, which no array can hold: {error}. Nothing was changed."
            ) from error
        if values.dtype == object:
            values[:n_before] = ""
        first = start - n_before
        for at, block in self._blocks(column, start, stop):
            values[at - first : at - first + len(block)] = block
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
            chunk = self.manifest.grid.chunk_at(at)
            end = min(chunk.stop, stop, self.n_sealed)
            values = self._chunk(column.path, chunk.warmup, chunk.idx)
            yield at, values[at - chunk.first : end - chunk.first]
            at = end
        for entry in self.entries:
            low, high = max(at, entry.first_draw_idx), min(stop, entry.stop_draw_idx)
            if low < high:
                yield low, entry.values(column.path, low, high)

    def _per_commit_value(self, path: str, draw_idx: int) -> Any:
        for entry in self.entries:
            if entry.stop_draw_idx == draw_idx + 1:
                return entry.data[path][0]
        chunk = self.manifest.grid.chunk_at(draw_idx)
        if draw_idx + 1 == min(chunk.stop, self.n_sealed):
            value = self._chunk(path, chunk.warmup, chunk.idx)[0]
            is_partial = draw_idx + 1 < chunk.stop
            if is_partial and _counted(self.store, self.manifest, self.chain) > self.n_counted:
                raise RunLockedError(
                    f"{self.store.name} is being written: {path} after draw {draw_idx} of chain "
                    f"{self.chain} was replaced by that of a later draw. Run this again."
                )
            return value
        raise DamagedStoreError(
            f"{self.store.name}: {path} of chain {self.chain} is kept at commits only, and none "
            f"was made at draw {draw_idx}."
        )

    def _read_chunk(self, path: str, warmup: bool, chunk_idx: int) -> Values:
        column = self._columns[path]
        spec = self.manifest.spec(column, warmup)
        index = self.manifest.chunk_index(column, self.chain, chunk_idx)
        try:
            chunk: Values = read_chunk(self.store, spec, *index)[0]
        except DamagedStoreError as error:
            lost = self.manifest.grid.chunk(warmup, chunk_idx)
            raise DamagedStoreError(
                f"{error} It holds draws {lost.first} to {min(lost.stop, self.n_sealed) - 1} of "
                f"chain {self.chain}; no other draw is affected."
            ) from error
        return chunk[(slice(None), *(slice(0, n) for n in column.shape))]


def warn_of_damage(records: Sequence[ChainRecord]) -> None:
    """Warn of recorded draws that were lost."""
    for text in records[0].store.noticed():
        warn_caller(
            f"{records[0].store.name}: {text}. Draws that were recorded there are lost; "
            "checkpoint.sample draws them again.",
            DamageWarning,
        )
    for record in records:
        if record.damage is not None and record.damage.n_lost:
            warn_caller(
                f"{record.damage.describe(record.store.name, record.chain)}. "
                "checkpoint.sample draws them again.",
                DamageWarning,
            )


def read_draw_idx(store: Store, manifest: Manifest, chain: int) -> int:
    """Return the number of sealed draws of a chain, warm-up included.

    Raises
    ------
    DamagedStoreError
        If the count is missing or damaged, or the run cannot have so many.
    """
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
        return int(read_chunk(store, manifest.draw_idx_spec(), chain)[0])
    except DamagedStoreError as error:
        raise DamagedStoreError(
            f"{error} It counts the sealed draws of chain {chain}, which cannot be read without it."
        ) from error
