"""The digest of the rows of one chain, kept beside their count."""

from collections.abc import Mapping

import numpy as np

from checkpoint.errors import DamagedStoreError
from checkpoint.format.digests import RowDigest
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.recording.record import ChainRecord
from checkpoint.stores import Store

__all__ = ["SealDigests", "digest_keys", "read_digests"]


class SealDigests:
    """The digests of a chain that `seal` writes.

    The stored value holds two digests: of the rows that are counted as sealed now, and of those
    that the next count will include. A crash leaves one of the two counts, and the digest that
    belongs to it is there in either case.

    Parameters
    ----------
    record : ChainRecord
        What the chain has recorded so far.
    """

    def __init__(self, record: ChainRecord) -> None:
        self._record = record
        self._manifest = record.manifest
        self._known: tuple[RowDigest, ...] | None = None

    def keys(self, n_sealed: int, rows: Mapping[str, Values], stop: int) -> dict[str, bytes]:
        """Return key and value of the digests for sealing the rows from `n_sealed` to `stop`."""
        if not self._manifest.has_digests:
            return {}
        before = self._at(n_sealed)
        after = before.after(self._manifest.columns, rows, stop - n_sealed)
        self._known = before, after
        return digest_keys(self._manifest, self._record.chain, before, after)

    def _at(self, n_rows: int) -> RowDigest:
        record, manifest = self._record, self._manifest
        if self._known is None:
            try:
                self._known = read_digests(record.store, manifest, record.chain)
            except DamagedStoreError:
                self._known = ()
        for known in self._known:
            if known.n_rows == n_rows:
                return known
        # The value was lost; or chunks were lost, and the count is smaller than it was.
        digest = RowDigest.of_no_rows(manifest.run_id, record.chain, manifest.columns)
        for start, stop in manifest.grid.ranges(n_rows):
            digest = digest.after(manifest.columns, record.rows(start, stop), stop - start)
        return digest


def digest_keys(
    manifest: Manifest, chain: int, before: RowDigest, after: RowDigest
) -> dict[str, bytes]:
    """Return key and value of the digests of a chain."""
    spec = manifest.digest_spec()
    values = np.array([[before.numbers(), after.numbers()]], spec.dtype)
    return {spec.chunk_key(chain, 0, 0): spec.encode(values)}


def read_digests(store: Store, manifest: Manifest, chain: int) -> tuple[RowDigest, ...]:
    """Return the stored digests of a chain: none if nothing of it is sealed.

    Raises
    ------
    DamagedStoreError
        If they cannot be read.
    """
    spec = manifest.digest_spec()
    key = spec.chunk_key(chain, 0, 0)
    data = store.read(key)
    if data is None:
        return ()
    try:
        return tuple(map(RowDigest.from_numbers, spec.decode(data)[0].tolist()))
    except Exception as error:  # codecs raise what they like
        raise DamagedStoreError(
            f"{store.name}: {key} cannot be read: {error}. No draw is affected. "
            "Restore that file from a copy."
        ) from error
