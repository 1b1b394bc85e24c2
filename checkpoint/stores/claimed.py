"""What the stores have in common that know no lock: a claim, and writing behind."""

import contextlib

from checkpoint.errors import StoreWriteError
from checkpoint.stores.base import Store
from checkpoint.stores.claims import STALE_AFTER, Claim
from checkpoint.stores.write_behind import WriteBehind

__all__ = ["ClaimedStore"]


class ClaimedStore(Store):
    """A store whose writer is known by a claim.

    Parameters
    ----------
    read_only : bool
    stale_after : float
        Seconds without a heartbeat after which a holder on another machine is taken for dead.
    """

    def __init__(self, *, read_only: bool = False, stale_after: float = STALE_AFTER) -> None:
        super().__init__(read_only=read_only)
        self._stale_after = stale_after
        self._claim: Claim | None = None

    def lock(self) -> None:
        claim = Claim(self, self._stale_after)
        claim.acquire()
        self._claim = claim

    def unlock(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            with contextlib.suppress(StoreWriteError):  # it grows stale by itself
                claim.release()

    def writer(self) -> Store:
        assert self._claim is not None, "lock it first"
        return WriteBehind(self, self._claim)
