"""The base class of stores without locks: a claim, and writes in the background."""

import contextlib
from collections.abc import Iterable

from checkpoint.errors import StoreWriteError
from checkpoint.stores.base import Store
from checkpoint.stores.claims import STALE_AFTER, Claim
from checkpoint.stores.write_behind import WriteBehind

__all__ = ["ClaimedStore"]

_FEW = 16
"""Up to this many keys are looked up one by one."""
_PAGE = 1000
"""Keys that one request of a listing returns."""


class ClaimedStore(Store):
    """A store that has a claim in place of a lock.

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

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that have no value, with few requests if there are many keys.

        A listing returns about a thousand keys per request. If the given keys are rare among all
        others, the listing is given up, and the remaining keys are looked up one by one.
        """
        wanted = list(dict.fromkeys(keys))
        left = set(wanted)
        if len(wanted) > _FEW:
            for n_seen, key in enumerate(self.keys()):
                left.discard(key)
                if not left or n_seen > _PAGE * len(wanted) / _FEW:
                    break
        return self._missing_each([key for key in wanted if key in left])

    def _missing_each(self, keys: list[str]) -> list[str]:
        return [key for key in keys if not self.has(key)]

    def lock(self) -> None:
        claim = Claim(self, self._stale_after)
        claim.acquire()
        self._claim = claim

    def check_held(self) -> None:
        if self._claim is not None:
            self._claim.check()

    def finish(self) -> None:
        if self._claim is not None:
            self._claim.tidy()

    def unlock(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            with contextlib.suppress(StoreWriteError):  # it grows stale by itself
                claim.release()

    def writer(self) -> Store:
        assert self._claim is not None, "lock it first"
        return WriteBehind(self, self._claim)
