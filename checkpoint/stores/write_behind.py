"""Write in the background: sampling continues while a slow store receives queued writes."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from checkpoint.errors import (
    CheckpointWarning,
    RunLockedError,
    StoreUnreachableError,
    StoreWriteError,
    warn_caller,
)
from checkpoint.stores.base import KeyTakenError, Store
from checkpoint.stores.claims import HEARTBEAT, STALE_AFTER, Claim

__all__ = ["WriteBehind"]

T = TypeVar("T")

_MAX_WAITING_NBYTES = 256 << 20
"""Sampling waits while writes of so many bytes are queued in memory."""

_PATIENCE = 3600.0
"""Seconds during which an operation is retried if the store does not answer."""

_LONGEST_PAUSE = 30.0


class WriteBehind(Store):
    """Queues writes for a thread, which performs them in order; reads wait for earlier writes.

    Parameters
    ----------
    store : Store
        Locked by `claim`.
    claim : Claim
        Renewed by a thread of its own.

    Notes
    -----
    Durability: `write` and `create` return before anything is durable; `flush` waits for it. While
    the store does not answer, queued writes are retried at growing intervals. If a write fails for
    another reason, the next call raises its error, and nothing more is written.
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
        """Wait until all queued writes are durable.

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

    def check_held(self) -> None:
        self.flush()
        self._patiently(lambda _: self._claim.check(), None)

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
                f"{self.name}: {item[0]} was written by another process. This process stops; "
                "nothing recorded is lost. Let only one process write a run."
            ) from None
        self._last_commit = time.time()

    def _patiently(self, do: Callable[[Any], T], argument: Any, writes: bool = False) -> T:
        """Perform an operation, and retry it while the store does not answer.

        Before a write the claim is checked: the store may have been removed, and another run
        created in its place. If this process was suspended or the network failed, for so long that
        another process may soon take over, the claim is renewed as well.
        """
        deadline = time.monotonic() + _PATIENCE
        pause, failed = 0.25, False
        while True:
            try:
                if writes and (failed or time.monotonic() - self._last_beat > STALE_AFTER / 2):
                    self._beat()
                elif writes:
                    self._claim.check()
                return do(argument)
            except StoreUnreachableError as error:
                is_over = time.monotonic() > deadline or self._closing.is_set()
                if is_over or self._error is not None:
                    raise
                failed = True
                if not self._has_warned:
                    self._has_warned = True
                    warn_caller(
                        f"{self.name} does not answer. Sampling continues, with draws kept in "
                        f"memory; the writes are tried again for {_PATIENCE / 60:.0f} minutes. "
                        f"{error}",
                        CheckpointWarning,
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
        """Renew the claim at intervals, also while a write takes long."""
        while not self._closing.wait(HEARTBEAT):
            try:
                self._beat()
            except StoreUnreachableError:
                continue  # the next write meets the error and reports it
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
        """Perform a queued write, unless an earlier one has failed."""
        if self._error is not None:
            return
        try:
            self._patiently(do, argument, writes=True)
        except BaseException as error:
            self._fail(error)
