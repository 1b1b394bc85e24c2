"""The durable side of one chain: record, commit, seal."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from checkpoint import commit_log, layout
from checkpoint.adapters import Adapter
from checkpoint.errors import DamagedStoreError, RunLockedError
from checkpoint.manifest import Manifest
from checkpoint.recording import Recorder, RowPlan
from checkpoint.recovery import ChainRecord, read_draw_idx
from checkpoint.rows import RowBuffer
from checkpoint.sealing import seal
from checkpoint.stores import KeyTakenError, Store

__all__ = ["ChainWriter"]

_MERGED = 64
"""Entries of the log that are merged into one."""

_MAX_COST = 0.01
"""Share of the time that commits may take; they become rarer where they would take more ..."""

_MAX_STRETCH = 1.0
"""... but never rarer than this many seconds for it: what can be lost stays bounded."""


class _Logged(NamedTuple):
    """An entry in the log, and how often what it holds was merged."""

    first_draw_idx: int
    level: int


class ChainWriter:
    """Keeps the draws of one chain.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    record : ChainRecord
        What the chain has recorded so far.
    plan, compute, adapters, steps
        As of `Recorder`.
    commit_interval : float
        Seconds between commits; 0 commits every draw.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        record: ChainRecord,
        plan: RowPlan,
        compute: Callable[..., Sequence[Any]],
        adapters: Sequence[Adapter],
        steps: Sequence[Any],
        commit_interval: float,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self.chain = record.chain
        self._interval = commit_interval
        self._pause = commit_interval
        self._set_aside_damage(record)
        self._n_sealed = _seal_complete_chunks(store, manifest, record)
        buffer = _load_buffer(manifest, record)
        self._recorder = Recorder(plan, compute, adapters, steps, buffer)
        self._n_committed = buffer.n_rows
        self._n_counted = read_draw_idx(store, manifest, record.chain)
        log = [_Logged(entry.first_draw_idx, 0) for entry in record.entries]
        self._log = [entry for entry in log if entry.first_draw_idx >= self._n_sealed]
        store.remove([self._key(entry) for entry in log if entry.first_draw_idx < self._n_sealed])
        # What is kept per commit would be lost with the borders of commits.
        self._may_merge = not any(column.per_commit for column in manifest.columns)
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
        """Whether every recorded draw is."""
        return self._n_committed == self.buffer.n_rows

    def record(self, point: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> None:
        """Record what a draw left, and commit if it is time.

        Notes
        -----
        Durability: none is promised on return; see `commit`.
        """
        self._recorder.record(point, stats)
        if self.buffer.is_full:
            self.seal()
        elif time.monotonic() - self._last_commit >= self._pause:
            self.commit()

    def settle(self) -> None:
        """Bring the buffer up to date."""
        self._recorder.settle()

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
            # An interrupt may have come between the write and our taking note of it.
            if self._store.read(key) != entry:
                raise self._overtaken(first) from None
        self._log.append(_Logged(first, 0))
        self._n_committed = stop
        self._wait_for_next(began)
        self._merge()

    def seal(self) -> None:
        """Move the chunk in progress into the arrays.

        Notes
        -----
        Durability: on return every recorded draw is durable, in the arrays.
        """
        if self.n_rows == self._n_sealed:
            return
        began = time.monotonic()
        if self._n_sealed > self.buffer.first_draw_idx:
            # The chunk was sealed in part: what it holds per commit is about to be replaced.
            self.commit()
        self.settle()
        self._check_alone()
        seal(self._store, self._manifest, self.chain, self.buffer)
        self._n_sealed = self._n_counted = self.n_rows
        self._store.remove([self._key(entry) for entry in self._log])
        self._log.clear()
        self._n_committed = self.buffer.n_rows
        if self.buffer.is_full and self.n_rows < self._manifest.total:
            _, _, _, capacity = self._manifest.chunk_of(self.n_rows)
            self._recorder.start_chunk(capacity)
            self._n_committed = 0
        self._wait_for_next(began, may_stretch=False)

    def _encode(self, first: int) -> bytes:
        """Return the log entry of all rows from draw `first` on."""
        start, stop = first - self.buffer.first_draw_idx, self.buffer.n_rows
        return commit_log.encode(
            self._manifest.run_id,
            self.chain,
            first,
            stop - start,
            self._manifest.columns,
            self.buffer.slices(start, stop),
            self._manifest.column_list,
        )

    def _merge(self) -> None:
        """Put many small entries into one, so that reading the log takes few steps.

        The first is replaced, then the others go. A crash in between leaves entries whose rows
        are in the one before them, which `recover` passes over.
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
        """Hold that no other process has gone on from what this one has recorded.

        A commit finds its entry taken then. Chunks and their count have no such guard.
        """
        following = self.buffer.first_draw_idx + self._n_committed
        counted = read_draw_idx(self._store, self._manifest, self.chain)
        if counted != self._n_counted or self._store.has(layout.log_entry(self.chain, following)):
            raise self._overtaken(following)

    def _overtaken(self, draw_idx: int) -> RunLockedError:
        return RunLockedError(
            f"{self._store.name}: draw {draw_idx} of chain {self.chain} was committed by another "
            "process. This one stops; nothing recorded is lost. Let one process write a run."
        )

    def _key(self, entry: "_Logged") -> str:
        return layout.log_entry(self.chain, entry.first_draw_idx)

    def _wait_for_next(self, began: float, may_stretch: bool = True) -> None:
        self._last_commit = began  # what is drawn from here on can be lost
        if self._interval > 0 and may_stretch:
            cost = time.monotonic() - began
            self._pause = max(self._interval, min(cost / _MAX_COST, _MAX_STRETCH))

    def _set_aside_damage(self, record: ChainRecord) -> None:
        """Free the names of entries that cannot be read; their bytes are kept for inspection."""
        if record.damage is not None:
            for key in record.damage.keys:
                data = _read_or_none(self._store, key)
                if data is not None:
                    name = key.removeprefix(f"{layout.LOG}/c/").replace("/", "-")
                    self._store.write({f"{layout.LOG}/damaged/{name}": data})
            self._store.remove(record.damage.keys)
        self._store.remove(record.stale_keys)


def _read_or_none(store: Store, key: str) -> bytes | None:
    """Return a value, or None where the store cannot read it; its bytes are in the store then."""
    try:
        return store.read(key)
    except DamagedStoreError:
        return None


def _seal_complete_chunks(store: Store, manifest: Manifest, record: ChainRecord) -> int:
    """Seal chunks that are whole in the log, which a crash kept from it; return what is sealed."""
    n_sealed = record.n_sealed
    while n_sealed < record.n_rows:
        _, _, first, capacity = manifest.chunk_of(n_sealed)
        stop = first + capacity
        if stop > record.n_rows:
            break
        buffer = RowBuffer(manifest.columns, capacity, first)
        buffer.load(record.rows(first, stop), capacity)
        seal(store, manifest, record.chain, buffer)
        n_sealed = stop
    return n_sealed


def _load_buffer(manifest: Manifest, record: ChainRecord) -> RowBuffer:
    """Return the buffer of the chunk in progress, with the rows it already has."""
    n_rows = record.n_rows
    # A run that ends on a chunk's last draw goes on with that chunk full, if it goes on at all.
    at = n_rows if n_rows < manifest.total else max(0, n_rows - 1)
    _, _, first, capacity = manifest.chunk_of(at)
    buffer = RowBuffer(manifest.columns, capacity, first)
    buffer.load(record.rows(first, n_rows), n_rows - first)
    return buffer
