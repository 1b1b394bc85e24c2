"""Fill an empty store with a run whose draws are known, completely or not at all.

The order must hold: first chunks and log entries, then the counts of sealed draws, then the root
with the manifest. If the process is killed before that, the store holds no run and can be filled
again. `tests/guarantees/test_convert.py` stops before and after each step.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from checkpoint.errors import RunExistsError, StoreWriteError
from checkpoint.format import layout, log_entry
from checkpoint.format.digests import RowDigest
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.hierarchy import read_root, write_root
from checkpoint.hierarchy.contents import Contents
from checkpoint.recording.digesting import digest_keys
from checkpoint.recording.rehearsed import Rehearsed, write_rehearsed
from checkpoint.recording.sealing import encode_chunks
from checkpoint.stores import Store

__all__ = ["Block", "check_empty", "fill"]

_AT_ONCE_NBYTES = 4 << 20
"""Bytes of chunks that are written and synced together: short ones would cost a sync each."""

Block = tuple[int, Mapping[str, Values]]
"""Consecutive rows of one chain: their number, and their values by column."""


def check_empty(store: Store) -> None:
    """Check that a store can be filled: it is empty, and can be written.

    Raises
    ------
    RunExistsError, NotARunError
        If it is not empty.
    StoreWriteError
        If it was opened read-only.
    """
    if read_root.read_manifest(store) is not None:
        raise RunExistsError(
            f"{store.name} holds a run. Nothing was changed. Choose another target, or remove "
            "that run first."
        )
    if store.read_only:
        raise StoreWriteError(f"{store.name} was opened read-only. Open it for writing.")


def fill(
    store: Store,
    manifest: Manifest,
    contents: Contents,
    chains: Iterable[Iterable[Block]],
    rehearsed: Sequence[Rehearsed] = (),
) -> Manifest:
    """Write a whole run into an empty store; return its manifest as it was written.

    Parameters
    ----------
    store : Store
        Locked while it is written.
    manifest : Manifest
    contents : Contents
    chains : iterable of iterable of Block
        The rows of each chain, in all or the first of the blocks of `manifest.grid.ranges`.
        Blocks are taken one after the other, and one at a time is kept.
    rehearsed : sequence of Rehearsed, optional
        The results of the rehearsals of each chain.

    Raises
    ------
    RunExistsError, NotARunError
        If it is not empty. Nothing is changed.
    RunLockedError
        If another process writes there.
    StoreWriteError
        If the store was opened read-only.

    Notes
    -----
    Durability: on return the run is durable. Until the last write the store holds no run.
    """
    check_empty(store)
    manifest = replace(manifest, grows=True)
    store.lock()
    try:
        check_empty(store)  # another process may have been first
        store = store.writer()
        write_root.write_placeholder(store, manifest.zarr_format)
        nodes = write_root.lay_out(store, manifest, contents)
        spec = manifest.draw_idx_spec()
        counts = []
        for chain, blocks in enumerate(chains):
            digest = _write_chain(store, manifest, chain, blocks)
            counts.append(digest.n_rows)
            counted = {spec.chunk_key(chain): spec.encode([digest.n_rows])}
            store.write(counted | digest_keys(manifest, chain, digest, digest))
        for chain, fact in enumerate(rehearsed):
            write_rehearsed(store, manifest, chain, fact)
        written = write_root.publish(store, manifest, nodes, counts)
        store.finish()
    finally:
        store.unlock()
    return written


def _write_chain(
    store: Store, manifest: Manifest, chain: int, blocks: Iterable[Block]
) -> RowDigest:
    """Write the rows of a chain; return the digest of those that lie in chunks.

    Full chunks are sealed, and so is the last chunk of a complete chain. The remaining rows become
    one log entry, as a writer that continues the chain expects.
    """
    digest = RowDigest.of_no_rows(manifest.run_id, chain, manifest.columns)
    n_waiting = 0
    waiting: dict[str, bytes] = {}
    for n_rows, rows in blocks:
        chunk = manifest.grid.chunk_at(digest.n_rows)
        first, stop = chunk.first, chunk.first + n_rows
        is_whole = n_rows == chunk.capacity or stop == manifest.total
        if is_whole:
            values = encode_chunks(manifest, chain, first, rows)
            digest = digest.after(manifest.columns, rows, n_rows)
        else:
            values = {layout.log_entry(chain, first): _entry(manifest, chain, first, n_rows, rows)}
        waiting |= values
        n_waiting += sum(map(len, values.values()))
        if n_waiting >= _AT_ONCE_NBYTES:
            store.write(waiting)
            waiting, n_waiting = {}, 0
        if not is_whole:
            break
    if waiting:
        store.write(waiting)
    return digest


def _entry(
    manifest: Manifest, chain: int, first: int, n_rows: int, rows: Mapping[str, Values]
) -> bytes:
    return log_entry.encode(manifest.run_id, chain, first, n_rows, manifest.columns, rows)
