"""A claim on a run, for stores without locks: a key that is rewritten as a heartbeat.

A claim names the process that writes. It is checked before each change. The check does not stop a
writer that is suspended between the check and the change. Two other rules do: a log entry is
created only if there is none; and in stores with conditional writes, the claim and the counts of
sealed draws replace only the value that this process last wrote or read.
"""

import json
import time
from typing import Any

from checkpoint.errors import DamagedStoreError, RunLockedError
from checkpoint.format import layout
from checkpoint.format.json_object import parse_object
from checkpoint.stores.base import KeyTakenError, Store, locked_error
from checkpoint.stores.held import moved_error
from checkpoint.stores.holder import Holder

__all__ = ["HEARTBEAT", "STALE_AFTER", "Claim"]

_ROOTS = (layout.NODE, layout.GROUP_V2)

HEARTBEAT = 5.0
"""Seconds between two heartbeats of a live holder."""

STALE_AFTER = 30.0
"""Seconds without a heartbeat after which a holder on another machine is taken for dead."""


class Claim:
    """The claim of one process on a run in a store.

    Parameters
    ----------
    store : Store
    stale_after : float
        Seconds to watch a holder that may be dead.
    key : str
        The key that holds the claim.
    name : str, optional
        Name of what is claimed, for messages; that of the store unless given.
    """

    def __init__(
        self,
        store: Store,
        stale_after: float = STALE_AFTER,
        key: str = layout.CLAIM,
        name: str | None = None,
    ) -> None:
        self._store = store
        self._key = key
        self._name = name or store.name
        self._stale_after = stale_after
        self._holder: Holder | None = None
        self._keys: list[str] = []
        self._beats = 0
        self._last_commit: float | None = None

    def acquire(self) -> None:
        """Claim the run.

        Whether a holder on this machine is alive is known at once. A holder on another machine
        is alive if its claim changes while it is watched; clocks are not compared.

        Raises
        ------
        RunLockedError
            If the holder is alive, or another process claims the run at the same time.
        DamagedStoreError
            If the claims name no holder that can be succeeded.
        """
        self._holder = Holder.this_process()
        found = self._read(self._key)
        if found is None:
            if not self._created(self._key):
                raise self._beaten()
            return
        seen: set[str] = set()
        dead = found
        # Of several processes that find the same claim dead, the one that creates the key named
        # after that claim takes over. If it died before that, its key is the next claim to check.
        while found is not None:
            self._wait_for_death(found)
            successor = f"{self._key}-after-{found.get('token', 'unknown')}"
            if successor in seen or not layout.is_key(successor):
                raise DamagedStoreError(
                    f"{self._name}: the claim {self._key} and those after it do not say which "
                    f"process holds them. If no process writes this run, remove {self._key}*."
                )
            seen.add(successor)
            if self._created(successor):
                self._keys = [successor]
                self._check_dead_still(dead)
                break
            found = self._read(successor)
        self._store.write({self._key: self._document()})

    def _check_dead_still(self, dead: dict[str, Any]) -> None:
        """Check that no other process took over meanwhile and removed the key of its takeover.

        Raises
        ------
        RunLockedError
            If there is another claim than the one that was found dead.
        """
        found = self._read(self._key)
        if found is not None and found.get("token") != dead.get("token"):
            self._store.remove(self._keys)
            raise self._beaten()

    def tidy(self) -> None:
        """Remove the keys of earlier takeovers; this process holds the claim of a finished run."""
        folder, _, name = self._key.rpartition("/")
        found = [f"{folder}/{each}".lstrip("/") for each in self._store.names(folder)
                 if each.startswith(f"{name}-after-")]  # fmt: skip
        self._store.remove([key for key in found if key not in self._keys])

    def _created(self, key: str) -> bool:
        try:
            self._store.create(key, self._document())
        except KeyTakenError:
            return False
        return True

    def _wait_for_death(self, found: dict[str, Any]) -> None:
        """Wait until a holder is known to be dead, or was silent for `stale_after` seconds.

        Raises
        ------
        RunLockedError
            If it is alive.
        """
        holder = Holder.from_json(found)
        if holder is None or holder.is_certainly_dead:
            return
        before = self._read(self._key)
        deadline = time.monotonic() + self._stale_after
        while time.monotonic() < deadline:
            if holder.is_on_this_machine or self._read(self._key) != before:
                raise locked_error(self._name, str(holder), found.get("last_commit"))
            time.sleep(min(0.5, self._stale_after / 20))

    def _beaten(self) -> RunLockedError:
        return RunLockedError(
            f"{self._name} was claimed by another process at the same time. "
            "Run this again once that run has ended."
        )

    def beat(self, last_commit: float | None) -> None:
        """Renew the claim with a new heartbeat.

        Raises
        ------
        StoreMovedError, RunLockedError
            As in `check`.
        """
        self._last_commit = last_commit
        self._beats += 1
        self.check()
        self._store.write({self._key: self._document()})

    def release(self) -> None:
        """Remove the claim if this process still holds it."""
        if self._holder is None:
            return
        found = Holder.from_json(self._read(self._key) or {})
        if found is not None and found.token == self._holder.token:
            self._store.remove([self._key, *self._keys])
        self._holder = None

    def check(self) -> None:
        """Check that this process still holds the claim.

        Raises
        ------
        StoreMovedError
            If the claim and the root of the run are gone.
        RunLockedError
            If another process holds the claim, or held it and has ended.
        """
        document = self._read(self._key)
        if document is None and not any(map(self._store.has, _ROOTS)):
            raise moved_error(self._name, "the same place")
        found = Holder.from_json(document or {})
        if self._holder is None or found is None or found.token != self._holder.token:
            raise RunLockedError(
                f"{self._name} was taken over by {found or 'another process'}: this process "
                "seemed dead, or another run was begun in its place. This process stops; nothing "
                "recorded is lost. Let only one process write a run."
            )

    def _read(self, key: str) -> dict[str, Any] | None:
        data = self._store.read(key)
        try:
            return None if data is None else parse_object(data)
        except ValueError:
            return {}  # cut off as its writer died, or written by another program

    def _document(self) -> bytes:
        assert self._holder is not None
        more = {"beats": self._beats, "last_commit": self._last_commit}
        return json.dumps(self._holder.to_json() | more).encode()
