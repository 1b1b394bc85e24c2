"""A claim on a run, for stores that have no lock of their own: a key, rewritten as a heartbeat.

A claim says who writes; it does not stop a writer that went to sleep and woke up. Log entries,
which are created only where there is none, do that.
"""

import json
import time
from typing import Any

from checkpoint import layout
from checkpoint.errors import RunLockedError
from checkpoint.stores.base import KeyTakenError, Store, locked_error
from checkpoint.stores.holder import Holder

__all__ = ["HEARTBEAT", "STALE_AFTER", "Claim"]

HEARTBEAT = 5.0
"""Seconds between two beats of a holder that lives."""

STALE_AFTER = 30.0
"""Seconds without a beat after which a holder on another machine is taken for dead."""


class Claim:
    """What one process says of itself in a store.

    Parameters
    ----------
    store : Store
    stale_after : float
        Seconds to watch a holder that may be dead.
    """

    def __init__(self, store: Store, stale_after: float = STALE_AFTER) -> None:
        self._store = store
        self._stale_after = stale_after
        self._holder: Holder | None = None
        self._beats = 0
        self._last_commit: float | None = None

    def acquire(self) -> None:
        """Claim the run.

        A holder on this machine is dead or alive at once. One elsewhere is alive if its
        claim changes while it is watched, by whatever clock.

        Raises
        ------
        RunLockedError
            If the holder lives.
        """
        found = self._read()
        deadline = time.monotonic() + self._stale_after
        while found is not None and time.monotonic() < deadline:
            holder = Holder.from_json(found)
            if holder is None or holder.is_certainly_dead:
                break
            again = found if holder.is_on_this_machine else self._after_a_while(found)
            if again is not None and (holder.is_on_this_machine or again != found):
                raise locked_error(self._store.name, str(holder), again.get("last_commit"))
            found = again
        self._holder = Holder.this_process()
        if found is None:
            try:
                self._store.create(layout.CLAIM, self._document())
            except KeyTakenError:
                raise RunLockedError(
                    f"{self._store.name} was claimed by another process at the same time. "
                    "Run this again once that run has ended."
                ) from None
            return
        self._store.write({layout.CLAIM: self._document()})

    def beat(self, last_commit: float | None) -> None:
        """Say that this process lives.

        Raises
        ------
        RunLockedError
            If the claim is another's by now.
        """
        self._last_commit = last_commit
        self._beats += 1
        self._hold()
        self._store.write({layout.CLAIM: self._document()})

    def release(self) -> None:
        """Give up the claim, if it is still this process's."""
        if self._holder is None:
            return
        found = Holder.from_json(self._read() or {})
        if found is not None and found.token == self._holder.token:
            self._store.remove([layout.CLAIM])
        self._holder = None

    def _hold(self) -> None:
        found = Holder.from_json(self._read() or {})
        if self._holder is None or found is None or found.token != self._holder.token:
            raise RunLockedError(
                f"{self._store.name} was taken over by {found or 'another process'}, to which "
                "this one seemed dead. This one stops; nothing recorded is lost. "
                "Let one process write a run."
            )

    def _read(self) -> dict[str, Any] | None:
        data = self._store.read(layout.CLAIM)
        try:
            return None if data is None else dict(json.loads(data))
        except (ValueError, TypeError):
            return {}  # cut off: its writer died, or was no writer of ours

    def _after_a_while(self, found: dict[str, Any]) -> dict[str, Any] | None:
        """Return the claim once it changes, or as it is after a fraction of the patience."""
        for _ in range(10):
            time.sleep(min(0.5, self._stale_after / 20))
            again = self._read()
            if again != found:
                return again
        return found

    def _document(self) -> bytes:
        assert self._holder is not None
        more = {"beats": self._beats, "last_commit": self._last_commit}
        return json.dumps(self._holder.to_json() | more).encode()
