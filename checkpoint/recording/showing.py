"""Show Zarr readers more draws of a run, at the ends of chunks, of sessions and of the run.

Only the process that holds the lock does it; processes that sample chains only seal chunks.
"""

import contextlib
from collections.abc import Sequence

from checkpoint.errors import CheckpointError, RunLockedError, StoreWriteError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.unfinished import is_marked, show
from checkpoint.recording.digesting import SealDigests
from checkpoint.recording.record import ChainRecord, read_draw_idx
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.sealing import seal_recorded
from checkpoint.stores import Store

__all__ = ["Growth", "seal_complete", "show_sealed", "show_whole"]


def show_sealed(store: Store, manifest: Manifest) -> None:
    """Show Zarr readers the draws that all chains have sealed.

    Notes
    -----
    Durability: on return it is durable.
    """
    counts = [read_draw_idx(store, manifest, chain) for chain in range(manifest.chains)]
    show(store, manifest, counts)


def show_whole(store: Store, manifest: Manifest) -> None:
    """Show all draws of a run that was killed after its last draw, but before it was finished.

    Nothing is done if readers see all of it, or if this process cannot write or lock the store.

    Notes
    -----
    Durability: on return every draw is in the arrays, if it was done.
    """
    if store.read_only or not manifest.grows or not is_marked(store):
        return
    with contextlib.suppress(RunLockedError, StoreWriteError):
        store.lock()
        try:
            writer = store.writer()
            records = recover_all(writer, manifest)
            if all(record.n_rows == manifest.total for record in records):
                seal_complete(writer, manifest, records)
                show_sealed(writer, manifest)
                writer.finish()
        finally:
            store.unlock()


def seal_complete(store: Store, manifest: Manifest, records: Sequence[ChainRecord]) -> None:
    """Seal the rows of complete chains that are still in the log; then remove the log entries.

    Notes
    -----
    Durability: on return every draw of those chains is in the arrays.
    """
    for record in records:
        if record.n_rows == manifest.total and record.entries:
            seal_recorded(store, manifest, record, SealDigests(record))
            entries = [layout.log_entry(record.chain, e.first_draw_idx) for e in record.entries]
            store.remove([*entries, *record.stale_keys])


class Growth:
    """Shows readers more draws during sampling, when all chains have reached the end of a chunk.

    Parameters
    ----------
    store : Store
        This process holds its lock.
    manifest : Manifest
    n_rows : sequence of int
        Recorded draws of each chain, warm-up included.
    """

    def __init__(self, store: Store, manifest: Manifest, n_rows: Sequence[int]) -> None:
        self._store = store
        self._manifest = manifest
        self._n_rows = list(n_rows)
        self._next = self._border_after(min(n_rows))

    def move(self, chain: int, n_rows: int) -> None:
        """Update the number of draws of a chain, and show more if all chains have reached it."""
        self._n_rows[chain] = n_rows
        if n_rows < self._next or (n_all := min(self._n_rows)) < self._next:
            return
        self._next = self._border_after(n_all)
        with contextlib.suppress(CheckpointError):  # the end of the session reports it
            show_sealed(self._store, self._manifest)

    def _border_after(self, n_rows: int) -> int:
        """Return the number of draws at the end of the chunk in progress.

        For the last chunk it is a number that no chain reaches: the end of the session shows it.
        """
        if n_rows >= self._manifest.total:
            return n_rows + 1
        border = self._manifest.grid.chunk_at(n_rows).stop
        return border if border < self._manifest.total else self._manifest.total + 1
