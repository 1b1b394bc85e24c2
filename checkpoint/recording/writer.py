"""Write one chain to a store: record, commit and seal its draws."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from checkpoint.adapters.sampler import Point, Sampler, Stats
from checkpoint.errors import DamagedStoreError, RunLockedError
from checkpoint.format import layout, log_entry
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.digesting import SealDigests
from checkpoint.recording.record import ChainRecord, read_draw_idx
from checkpoint.recording.recorder import Recorder, RowPlan, stats_of_row
from checkpoint.recording.rehearsed import write_passed
from checkpoint.recording.sealing import seal, seal_recorded
from checkpoint.recording.session_clock import SessionClock
from checkpoint.stores.base import KeyTakenError, Store

__all__ = ["ChainWriter"]

_MERGED = 64
"""Number of log entries that are merged into one."""

_MAX_COST = 0.01
"""Share of the time that commits may take; they become rarer where they would take more ..."""

_MAX_STRETCH = 1.0
"""... but their interval is not stretched beyond this many seconds, to bound what can be lost."""


class _Logged(NamedTuple):
    """A log entry, and how often its rows were merged."""

    first_draw_idx: int
    level: int


class ChainWriter:
    """Records the draws of one chain and writes them to a store.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    record : ChainRecord
        What the chain has recorded so far.
    plan, compute, sampler
        See `Recorder`.
    commit_interval : float
        Seconds between commits; 0 commits every draw.
    clock : SessionClock
        Gives the time that each commit records.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        record: ChainRecord,
        plan: RowPlan,
        compute: Callable[..., Sequence[Any]],
        sampler: Sampler,
        commit_interval: float,
        clock: SessionClock,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self.chain = record.chain
        self._interval = commit_interval
        self._pause = commit_interval
        self._plan = plan
        self._set_aside_damage(record)
        self._digests = SealDigests(record)
        self._n_sealed = seal_recorded(store, manifest, record, self._digests)
        buffer = _load_buffer(manifest, record)
        self._recorder = Recorder(plan, compute, sampler, buffer, clock)
        self._n_committed = buffer.n_rows
        self._n_counted = read_draw_idx(store, manifest, record.chain)
        log = [_Logged(entry.first_draw_idx, 0) for entry in record.entries]
        self._log = [entry for entry in log if entry.first_draw_idx >= self._n_sealed]
        store.remove([self._key(entry) for entry in log if entry.first_draw_idx < self._n_sealed])
        # Columns with one value per commit would lose values if entries were merged.
        self._may_merge = not any(column.per_commit for column in manifest.columns)
        self._passed: int | None = None
        self._last_commit = time.monotonic()

    @property
    def buffer(self) -> RowBuffer:
        """The rows of the chunk in progress."""
        return self._recorder.buffer

    @property
    def n_rows(self) -> int:
        """Draws recorded, committed or not, warm-up included."""
        return self.buffer.stop_draw_idx

    @property
    def is_durable(self) -> bool:
        """Whether every recorded draw is committed."""
        return self._n_committed == self.buffer.n_rows

    def record(self, point: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> None:
        """Record point and stats of a draw, and commit if it is time.

        Notes
        -----
        Durability: none is promised on return; see `commit`.
        """
        self._recorder.record(point, stats)
        self._keep()

    def record_block(self, rows: Mapping[str, Values]) -> tuple[Point, Stats]:
        """Record many draws of one phase, given as the columns of their rows, and commit if due.

        Point and stats of the last draw are returned.

        Notes
        -----
        Durability: none is promised on return; see `commit`.
        """
        start, n_draws = 0, len(next(iter(rows.values())))
        while start < n_draws:
            room = self.buffer.capacity - self.buffer.n_rows
            stop = min(n_draws, start + room)
            self._recorder.record_block(rows, start, stop)
            self._keep()
            start = stop
        point = {name: rows[path][-1] for name, path in self._manifest.point_paths.items()}
        return point, stats_of_row(self._plan, rows, n_draws - 1)

    def _keep(self) -> None:
        """Seal the chunk in progress if it is full, or commit if it is time."""
        if self.buffer.is_full:
            self.seal()
        elif time.monotonic() - self._last_commit >= self._pause:
            self.commit()

    def settle(self) -> None:
        """Put all recorded draws into the columns of the buffer."""
        self._recorder.settle()

    def as_committed(self) -> ChainRecord:
        """Return the record of the chain as it would be after a commit now; write nothing.

        Rows that are not sealed are read from the bytes that their log entry would have.
        """
        self.settle()
        first = max(self._n_sealed, self.buffer.first_draw_idx)
        waiting = [log_entry.decode(self._encode(first))] if first < self.n_rows else []
        return ChainRecord(
            self._store,
            self._manifest,
            self.chain,
            self._n_counted,
            self._n_sealed,
            tuple(waiting),
            None,
            (),
        )

    def say_passed(self, draw_idx: int) -> None:
        """Record that a draw passed its rehearsal, as soon as all draws are committed."""
        self._passed = draw_idx
        if self.is_durable:
            self._write_passed()

    def _write_passed(self) -> None:
        if self._passed is not None:
            write_passed(self._store, self._manifest, self.chain, self._passed)
            self._passed = None

    def commit(self) -> None:
        """Publish all rows since the last commit as one log entry.

        Raises
        ------
        RunLockedError
            If another writer was first.

        Notes
        -----
        Durability: on return every recorded draw is durable.
        """
        start, stop = self._n_committed, self.buffer.n_rows
        if start == stop:
            return
        began = time.monotonic()
        self.settle()
        first = self.buffer.first_draw_idx + start
        key, entry = layout.log_entry(self.chain, first), self._encode(first)
        try:
            self._store.create(key, entry)
        except KeyTakenError:
            # An interrupt may have come after the write, before this object was updated.
            if self._store.read(key) != entry:
                raise self._overtaken(first) from None
        self._log.append(_Logged(first, 0))
        self._n_committed = stop
        self._write_passed()
        self._wait_for_next(began)
        self._merge()

    def seal(self) -> None:
        """Write the chunk in progress into the arrays, and remove its log entries.

        Raises
        ------
        RunLockedError
            If another process has continued the chain.
        StoreMovedError
            If the store was moved, removed or replaced.

        Notes
        -----
        Durability: on return every recorded draw is durable, in the arrays.
        """
        if self.n_rows == self._n_sealed:
            return
        began = time.monotonic()
        if self._n_sealed > self.buffer.first_draw_idx:
            # The chunk was sealed in part: its values per commit are about to be replaced.
            self.commit()
        self.settle()
        self._store.check_held()
        try:
            self._check_alone()
        except DamagedStoreError:
            self._store.check_held()  # the store was moved between the two checks
            raise
        parts = (self._digests, self._n_sealed)
        seal(self._store, self._manifest, self.chain, self.buffer, *parts)
        self._n_sealed = self._n_counted = self.n_rows
        self._store.remove([self._key(entry) for entry in self._log])
        self._log.clear()
        self._n_committed = self.buffer.n_rows
        self._write_passed()
        if self.buffer.is_full and self.n_rows < self._manifest.total:
            self._recorder.start_chunk(self._manifest.grid.chunk_at(self.n_rows).capacity)
            self._n_committed = 0
        self._wait_for_next(began, may_stretch=False)

    def _encode(self, first: int) -> bytes:
        """Return the log entry of all rows from draw `first` on."""
        start, stop = first - self.buffer.first_draw_idx, self.buffer.n_rows
        return log_entry.encode(
            self._manifest.run_id,
            self.chain,
            first,
            stop - start,
            self._manifest.columns,
            self.buffer.slices(start, stop),
            self._manifest.column_list,
        )

    def _merge(self) -> None:
        """Merge many small log entries into one, so that reading the log takes few steps.

        The first entry is replaced by the merged one, then the others are removed. A crash in
        between leaves entries whose rows are in the merged one too; `recover` ignores them.
        """
        while self._may_merge and len(self._log) >= _MERGED:
            last = self._log[-_MERGED:]
            if last[0].level != last[-1].level:
                return
            first = last[0].first_draw_idx
            self._store.write({self._key(last[0]): self._encode(first)})
            self._store.remove([self._key(entry) for entry in last[1:]])
            self._log[-_MERGED:] = [_Logged(first, last[0].level + 1)]

    def _check_alone(self) -> None:
        """Check that no other process has continued from the draws of this one.

        `commit` needs no such check, as it fails if its entry exists. Chunks and their count have
        no such protection.

        Raises
        ------
        RunLockedError
            If another process has.
        """
        following = self.buffer.first_draw_idx + self._n_committed
        counted = read_draw_idx(self._store, self._manifest, self.chain)
        if counted != self._n_counted or self._store.has(layout.log_entry(self.chain, following)):
            raise self._overtaken(following)

    def _overtaken(self, draw_idx: int) -> RunLockedError:
        return RunLockedError(
            f"{self._store.name}: draw {draw_idx} of chain {self.chain} was committed by another "
            "process. This process stops; nothing recorded is lost. Let only one process write a "
            "run."
        )

    def _key(self, entry: "_Logged") -> str:
        return layout.log_entry(self.chain, entry.first_draw_idx)

    def _wait_for_next(self, began: float, may_stretch: bool = True) -> None:
        self._last_commit = began  # what is drawn from here on can be lost
        if self._interval > 0 and may_stretch:
            cost = time.monotonic() - began
            self._pause = max(self._interval, min(cost / _MAX_COST, _MAX_STRETCH))

    def _set_aside_damage(self, record: ChainRecord) -> None:
        """Free the keys of log entries that cannot be read; keep their bytes for inspection."""
        if record.damage is not None:
            for key in record.damage.keys:
                data = _read_or_none(self._store, key)
                if data is not None:
                    name = key.removeprefix(f"{layout.LOG}/c/").replace("/", "-")
                    self._store.write({f"{layout.LOG}/damaged/{name}": data})
            self._store.remove(record.damage.keys)
        self._store.remove(record.stale_keys)


def _read_or_none(store: Store, key: str) -> bytes | None:
    """Return a value, or None if the store cannot read it; the store then keeps its bytes."""
    try:
        return store.read(key)
    except DamagedStoreError:
        return None


def _load_buffer(manifest: Manifest, record: ChainRecord) -> RowBuffer:
    """Return the buffer of the chunk in progress, with the rows it already has."""
    n_rows = record.n_rows
    # A complete chain has no next draw: its buffer is that of its last chunk.
    at = n_rows if n_rows < manifest.total else max(0, n_rows - 1)
    chunk = manifest.grid.chunk_at(at)
    buffer = RowBuffer(manifest.columns, chunk.capacity, chunk.first)
    buffer.load(record.rows(chunk.first, n_rows), n_rows - chunk.first)
    return buffer
