"""Writing behind: sampling goes on from memory while a slow store takes what it was given."""

import queue
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from checkpoint.errors import (
    CheckpointWarning,
    RunLockedError,
    StoreUnreachableError,
    StoreWriteError,
)
from checkpoint.stores.base import KeyTakenError, Store
from checkpoint.stores.claims import HEARTBEAT, STALE_AFTER, Claim

__all__ = ["WriteBehind"]

T = TypeVar("T")

_MAX_WAITING_NBYTES = 256 << 20
"""What may wait in memory; sampling waits while it is more."""

_PATIENCE = 3600.0
"""Seconds for which a store that does not answer is tried again."""

_LONGEST_PAUSE = 30.0


class WriteBehind(Store):
    """Hands each write to a thread, which does them in order; reads wait for the writes.

    Parameters
    ----------
    store : Store
        Locked by `claim`.
    claim : Claim
        Renewed by a thread of its own.

    Notes
    -----
    Durability: `write` and `create` return before anything is durable; `flush` waits for it. While
    the store does not answer, what waits is tried again, at growing intervals. A write that fails
    otherwise is raised by the next call, and nothing is written after it.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        super().__init__()
        self._store = store
        self._claim = claim
        self._work: queue.Queue[tuple[Callable[..., None], Any, int] | None] = queue.Queue()
        self._changed = threading.Condition()
        self._n_waiting = 0
        self._nbytes_waiting = 0
        self._error: BaseException | None = None
        self._last_commit: float | None = None
        self._has_warned = False
        self._closing = threading.Event()
        self._last_beat = time.monotonic()
        self._beating = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()
        self._heart = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._heart.start()

    @property
    def name(self) -> str:
        return self._store.name

    def read(self, key: str) -> bytes | None:
        self.flush()
        return self._patiently(self._store.read, key)

    def has(self, key: str) -> bool:
        self.flush()
        return self._patiently(self._store.has, key)

    def missing(self, keys: Iterable[str]) -> list[str]:
        self.flush()
        return self._patiently(self._store.missing, keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self.flush()
        return self._patiently(self._store.keys, prefix)

    def names(self, folder: str) -> list[str]:
        self.flush()
        return self._patiently(self._store.names, folder)

    def write(self, values: Mapping[str, bytes]) -> None:
        self._later(self._store.write, dict(values), sum(map(len, values.values())))

    def create(self, key: str, value: bytes) -> None:
        self._later(self._create, (key, value), len(value))

    def remove(self, keys: Iterable[str]) -> None:
        self._later(self._store.remove, list(keys), 0)

    def flush(self) -> None:
        """Wait until all that was written is durable.

        Raises
        ------
        CheckpointError
            If a write failed.
        """
        with self._changed:
            try:
                self._changed.wait_for(lambda: not self._n_waiting or self._error is not None)
            except KeyboardInterrupt:
                self._error = StoreWriteError(
                    f"{self.name}: interrupted while {self._n_waiting} writes were waiting, which "
                    "are lost. What was recorded before is intact. Run the same command again."
                )
                raise
            self._raise()

    def lock(self) -> None:
        raise NotImplementedError("It is made by a store that is locked.")

    def unlock(self) -> None:
        try:
            self.flush()
        finally:
            self._closing.set()
            self._work.put(None)
            self._thread.join()
            self._heart.join()
            self._store.unlock()

    def finish(self) -> None:
        self.flush()
        self._store.finish()

    def _create(self, item: tuple[str, bytes]) -> None:
        try:
            self._store.create(*item)
        except KeyTakenError:
            raise RunLockedError(
                f"{self.name}: {item[0]} was written by another process. This one stops; nothing "
                "recorded is lost. Let one process write a run."
            ) from None
        self._last_commit = time.time()

    def _patiently(self, do: Callable[[Any], T], argument: Any, writes: bool = False) -> T:
        """Do something, again and again while the store does not answer.

        Before a write the claim is looked at, if this process may have slept, or the network been
        away, for so long that another took over.
        """
        deadline = time.monotonic() + _PATIENCE
        pause, failed = 0.25, False
        while True:
            try:
                if writes and (failed or time.monotonic() - self._last_beat > STALE_AFTER / 2):
                    self._beat()
                return do(argument)
            except StoreUnreachableError as error:
                is_over = time.monotonic() > deadline or self._closing.is_set()
                if is_over or self._error is not None:
                    raise
                failed = True
                if not self._has_warned:
                    self._has_warned = True
                    warnings.warn(
                        f"{self.name} does not answer. Sampling goes on from memory; what waits "
                        f"is tried again for {_PATIENCE / 60:.0f} minutes. {error}",
                        CheckpointWarning,
                        stacklevel=2,
                    )
                self._closing.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _later(self, do: Callable[..., None], argument: Any, nbytes: int) -> None:
        self._check_open()
        with self._changed:
            self._changed.wait_for(
                lambda: self._nbytes_waiting < _MAX_WAITING_NBYTES or self._error is not None
            )
            self._raise()
            self._n_waiting += 1
            self._nbytes_waiting += nbytes
        self._work.put((do, argument, nbytes))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StoreWriteError(
                f"{self.name} is not locked by this process any more; nothing was written. "
                "Open the run again."
            )

    def _run(self) -> None:
        while True:
            item = self._work.get()
            if item is None:
                return
            do, argument, nbytes = item
            self._try(do, argument)
            with self._changed:
                self._n_waiting -= 1
                self._nbytes_waiting -= nbytes
                self._changed.notify_all()

    def _keep_beating(self) -> None:
        """Renew the claim while a write takes its time."""
        while not self._closing.wait(HEARTBEAT):
            try:
                self._beat()
            except StoreUnreachableError:
                continue  # what is written next finds that out, and says so
            except BaseException as error:
                self._fail(error)
                return

    def _beat(self) -> None:
        with self._beating:
            self._claim.beat(self._last_commit)
            self._last_beat = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _try(self, do: Callable[..., None], argument: Any) -> None:
        """Do something unless something before it has failed."""
        if self._error is not None:
            return
        try:
            self._patiently(do, argument, writes=True)
        except BaseException as error:
            self._fail(error)
