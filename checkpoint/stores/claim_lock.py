"""A claim with a heartbeat, in place of a lock, on file systems without locks."""

import contextlib
import threading
from collections.abc import Callable

from checkpoint.errors import CheckpointError, CheckpointWarning, StoreWriteError, warn_caller
from checkpoint.stores.base import Store
from checkpoint.stores.claims import HEARTBEAT, STALE_AFTER, Claim

__all__ = ["ClaimLock"]

_SAID: set[str] = set()


class ClaimLock:
    """A claim with the interface of `WriterLock`, for file systems without locks.

    Parameters
    ----------
    store : Store
        The store that holds the claim.
    key : str
    name : str
        Name of what is claimed, for messages.
    stale_after : float
        Seconds without a heartbeat after which a holder on another machine is taken for dead.
    """

    def __init__(self, store: Store, key: str, name: str, stale_after: float = STALE_AFTER) -> None:
        self.claim = Claim(store, stale_after, key, name)
        self._name = name
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self, last_commit: Callable[[], float | None]) -> None:
        """Claim the run, and warn once that the file system has no locks.

        Raises
        ------
        RunLockedError
            If another live process has claimed it.
        """
        self.claim.acquire()
        if self._name not in _SAID:
            _SAID.add(self._name)
            warn_caller(
                f"{self._name}: its file system has no locks (flock). A claim that is renewed "
                f"every {HEARTBEAT:.0f} seconds keeps other processes away instead. If this "
                "process dies, a process on another machine can continue the run after "
                f"{STALE_AFTER:.0f} seconds.",
                CheckpointWarning,
            )
        self._heart = threading.Thread(
            target=self._keep_beating, args=(last_commit,), name="heartbeat", daemon=True
        )
        self._heart.start()

    has_rival = True
    """Always true; see `WriterLock.has_rival`."""

    def remove_if_new(self) -> None:
        """Do nothing: `release` removes the claim."""

    def release(self) -> None:
        self._closing.set()
        if self._heart is not None:
            self._heart.join(timeout=HEARTBEAT)
        with contextlib.suppress(StoreWriteError):  # it grows stale by itself
            self.claim.release()

    def _keep_beating(self, last_commit: Callable[[], float | None]) -> None:
        while not self._closing.wait(HEARTBEAT):
            try:
                self.claim.beat(last_commit())
            except CheckpointError:
                return  # the next change meets the error and reports it
            except OSError:
                continue
