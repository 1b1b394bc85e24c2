"""Move the rows of a chunk from memory into the arrays that readers know.

The order must hold: chunks, then the count of sealed draws, each durable before the next. Only
then may log entries go. A crash in between leaves the log in charge, and sealing again writes
the same chunks. `tests/test_every_crash_point.py` stops at every system call.
"""

from collections.abc import Mapping

from checkpoint.manifest import Manifest
from checkpoint.rows import RowBuffer, Values
from checkpoint.stores import Store

__all__ = ["encode_chunks", "seal"]


def seal(store: Store, manifest: Manifest, chain: int, buffer: RowBuffer) -> None:
    """Write the rows of a buffer as one chunk of each array.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    chain : int
    buffer : RowBuffer
        Its rows begin where a chunk does; it need not be full.

    Notes
    -----
    Durability: on return the chunks and the count of sealed draws are durable.
    """
    rows = buffer.slices(0, buffer.n_rows)
    store.write(encode_chunks(manifest, chain, buffer.first_draw_idx, rows))
    spec = manifest.draw_idx_spec()
    store.write({spec.chunk_key(chain): spec.encode([buffer.stop_draw_idx])})


def encode_chunks(
    manifest: Manifest, chain: int, first_draw_idx: int, rows: Mapping[str, Values]
) -> dict[str, bytes]:
    """Return rows, which begin where a chunk does, as one chunk of each array by key."""
    warmup, chunk_idx, _, _ = manifest.chunk_of(first_draw_idx)
    chunks = {}
    for column in manifest.columns:
        spec = manifest.spec(column, warmup)
        index = manifest.chunk_index(column, chain, chunk_idx)
        chunks[spec.chunk_key(*index)] = spec.encode(rows[column.path][None])
    return chunks
