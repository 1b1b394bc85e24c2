"""Write the rows of a chunk from memory into the Zarr arrays that readers see.

The order must hold: chunks, then the count of sealed draws, each durable before the next. Only
then may log entries be removed. After a crash in between, the rows are read from the log, and
sealing again writes the same chunks. `tests/guarantees/test_every_crash_point.py` stops at every
system call.
"""

from collections.abc import Mapping

from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.digesting import SealDigests
from checkpoint.recording.record import ChainRecord
from checkpoint.stores import Store

__all__ = ["encode_chunks", "seal", "seal_recorded"]


def seal(
    store: Store,
    manifest: Manifest,
    chain: int,
    buffer: RowBuffer,
    digests: SealDigests,
    n_sealed: int,
) -> None:
    """Write the rows of a buffer as one chunk of each array.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    chain : int
    buffer : RowBuffer
        Its rows begin at the start of a chunk; it need not be full.
    digests : SealDigests
    n_sealed : int
        Rows of the chain that are sealed already, which may include some of the buffer.

    Notes
    -----
    Durability: on return the chunks and the count of sealed draws are durable.
    """
    rows = buffer.slices(0, buffer.n_rows)
    chunks = encode_chunks(manifest, chain, buffer.first_draw_idx, rows)
    new = buffer.slices(n_sealed - buffer.first_draw_idx, buffer.n_rows)
    store.write(chunks | digests.keys(n_sealed, new, buffer.stop_draw_idx))
    spec = manifest.draw_idx_spec()
    store.write({spec.chunk_key(chain): spec.encode([buffer.stop_draw_idx])})


def seal_recorded(
    store: Store, manifest: Manifest, record: ChainRecord, digests: SealDigests
) -> int:
    """Seal the chunks whose rows are all recorded; return the number of sealed rows.

    A crash can leave such chunks in the log. The last chunk of a run has all its rows when the
    run is complete.
    """
    n_sealed = record.n_sealed
    while n_sealed < record.n_rows:
        chunk = manifest.grid.chunk_at(n_sealed)
        stop = min(chunk.stop, manifest.total)
        if stop > record.n_rows:
            break
        buffer = RowBuffer(manifest.columns, chunk.capacity, chunk.first)
        buffer.load(record.rows(chunk.first, stop), stop - chunk.first)
        seal(store, manifest, record.chain, buffer, digests, n_sealed)
        n_sealed = stop
    return n_sealed


def encode_chunks(
    manifest: Manifest, chain: int, first_draw_idx: int, rows: Mapping[str, Values]
) -> dict[str, bytes]:
    """Return rows that begin at the start of a chunk as one chunk of each array, by key."""
    chunk = manifest.grid.chunk_at(first_draw_idx)
    chunks = {}
    for column in manifest.columns:
        spec = manifest.spec(column, chunk.warmup)
        index = manifest.chunk_index(column, chain, chunk.idx)
        chunks[spec.chunk_key(*index)] = spec.encode(rows[column.path][None])
    return chunks
