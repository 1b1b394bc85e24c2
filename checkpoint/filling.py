"""Fill an empty store with a run whose draws are known: all of it, or nothing.

The order must hold: first what lies in chunks and in the log, then the counts of sealed draws,
then the root with the manifest. Killed before that, the store holds no run, and can be filled
again. `tests/test_convert.py` stops before and after each step.
"""

from collections.abc import Iterable, Mapping

from checkpoint import commit_log, hierarchy, layout
from checkpoint.errors import RunExistsError, StoreWriteError
from checkpoint.hierarchy import Contents
from checkpoint.manifest import Manifest
from checkpoint.rows import Values
from checkpoint.sealing import encode_chunks
from checkpoint.stores import Store

__all__ = ["Block", "check_empty", "fill"]

_AT_ONCE_NBYTES = 4 << 20
"""Chunks that are written, and synced, in one go: short ones would cost a sync each."""

Block = tuple[int, Mapping[str, Values]]
"""Rows of one chain that follow each other: how many, and by column."""


def check_empty(store: Store) -> None:
    """Hold that a store can be filled: it can be written, and nothing is in it.

    Raises
    ------
    RunExistsError, NotARunError
        If something is.
    StoreWriteError
        If it was opened read-only.
    """
    if hierarchy.read_manifest(store) is not None:
        raise RunExistsError(
            f"{store.name} holds a run. Nothing was changed. Choose another target, or remove "
            "that run first."
        )
    if store.read_only:
        raise StoreWriteError(f"{store.name} was opened read-only. Open it for writing.")


def fill(
    store: Store, manifest: Manifest, contents: Contents, chains: Iterable[Iterable[Block]]
) -> Manifest:
    """Write a whole run into an empty store; return its manifest as it was written.

    Parameters
    ----------
    store : Store
        Locked while it is written.
    manifest : Manifest
    contents : Contents
    chains : iterable of iterable of Block
        For each chain its rows, in the blocks that `manifest.chunk_ranges` names, or fewer.
        They are asked for one after the other, and one at a time is kept.

    Raises
    ------
    RunExistsError, NotARunError
        If it is not empty. Nothing is changed.
    RunLockedError
        If another process writes there.

    Notes
    -----
    Durability: on return the run is durable. Before the last write there is no run.
    """
    check_empty(store)
    store.lock()
    try:
        check_empty(store)  # another process may have been first
        store = store.writer()
        hierarchy.begin(store, manifest.zarr_format)
        nodes = hierarchy.lay_out(store, manifest, contents)
        spec = manifest.draw_idx_spec()
        for chain, blocks in enumerate(chains):
            n_sealed = _write_chain(store, manifest, chain, blocks)
            store.write({spec.chunk_key(chain): spec.encode([n_sealed])})
        written = hierarchy.publish(store, manifest, nodes)
        store.finish()
    finally:
        store.unlock()
    return written


def _write_chain(store: Store, manifest: Manifest, chain: int, blocks: Iterable[Block]) -> int:
    """Write the rows of a chain; return how many lie in chunks.

    Whole chunks are sealed, and so is the last one of a chain that is complete. What is left is
    one entry of the log, as a writer that goes on would have it.
    """
    n_sealed = n_waiting = 0
    waiting: dict[str, bytes] = {}
    for n_rows, rows in blocks:
        _, _, first, capacity = manifest.chunk_of(n_sealed)
        stop = first + n_rows
        is_whole = n_rows == capacity or stop == manifest.total
        if is_whole:
            values = encode_chunks(manifest, chain, first, rows)
            n_sealed = stop
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
    return n_sealed


def _entry(
    manifest: Manifest, chain: int, first: int, n_rows: int, rows: Mapping[str, Values]
) -> bytes:
    return commit_log.encode(manifest.run_id, chain, first, n_rows, manifest.columns, rows)
