"""A claim on a run, for stores that have no lock of their own: a key, rewritten as a heartbeat.

A claim says who writes; it does not stop a writer that went to sleep and woke up. Log entries,
which are created only where there is none, do that.
"""

import json
import time
from typing import Any

from checkpoint import layout
from checkpoint.errors import DamagedStoreError, RunLockedError
from checkpoint.json_object import parse_object
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
        self._keys: list[str] = []
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
        self._holder = Holder.this_process()
        found = self._read(layout.CLAIM)
        if found is None:
            if not self._created(layout.CLAIM):
                raise self._beaten()
            return
        seen: set[str] = set()
        # Of those that find the same claim dead, the one that creates the key named after it
        # may go on. It may have died before it did: then that key is the claim to look at.
        while found is not None:
            self._wait_for_death(found)
            successor = f"{layout.CLAIM}-after-{found.get('token', 'unknown')}"
            if successor in seen or not layout.is_key(successor):
                raise DamagedStoreError(
                    f"{self._store.name}: the claim {layout.CLAIM} and those after it name no "
                    f"holder that could be succeeded. Remove {layout.CLAIM}* if nobody writes."
                )
            seen.add(successor)
            if self._created(successor):
                self._keys = [successor]
                break
            found = self._read(successor)
        self._store.write({layout.CLAIM: self._document()})

    def _created(self, key: str) -> bool:
        try:
            self._store.create(key, self._document())
        except KeyTakenError:
            return False
        return True

    def _wait_for_death(self, found: dict[str, Any]) -> None:
        """Return when a holder is certainly dead, or has been watched for long enough.

        Raises
        ------
        RunLockedError
            If it lives.
        """
        holder = Holder.from_json(found)
        if holder is None or holder.is_certainly_dead:
            return
        before = self._read(layout.CLAIM)
        deadline = time.monotonic() + self._stale_after
        while time.monotonic() < deadline:
            if holder.is_on_this_machine or self._read(layout.CLAIM) != before:
                raise locked_error(self._store.name, str(holder), found.get("last_commit"))
            time.sleep(min(0.5, self._stale_after / 20))

    def _beaten(self) -> RunLockedError:
        return RunLockedError(
            f"{self._store.name} was claimed by another process at the same time. "
            "Run this again once that run has ended."
        )

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
        found = Holder.from_json(self._read(layout.CLAIM) or {})
        if found is not None and found.token == self._holder.token:
            self._store.remove([layout.CLAIM, *self._keys])
        self._holder = None

    def _hold(self) -> None:
        found = Holder.from_json(self._read(layout.CLAIM) or {})
        if self._holder is None or found is None or found.token != self._holder.token:
            raise RunLockedError(
                f"{self._store.name} was taken over by {found or 'another process'}, to which "
                "this one seemed dead. This one stops; nothing recorded is lost. "
                "Let one process write a run."
            )

    def _read(self, key: str) -> dict[str, Any] | None:
        data = self._store.read(key)
        try:
            return None if data is None else parse_object(data)
        except ValueError:
            return {}  # cut off: its writer died, or was no writer of ours

    def _document(self) -> bytes:
        assert self._holder is not None
        more = {"beats": self._beats, "last_commit": self._last_commit}
        return json.dumps(self._holder.to_json() | more).encode()
