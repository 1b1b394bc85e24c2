"""Serves a store to processes that do not write it themselves, when they are not ours to start."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from checkpoint.errors import StoreWriteError
from checkpoint.stores.base import Store
from checkpoint.stores.remote import answer

__all__ = ["Door", "StoreServer"]

_LOST = (OSError, EOFError, ValueError, multiprocessing.AuthenticationError)


@dataclass(frozen=True)
class Door:
    """Where a `StoreServer` listens; it may be pickled."""

    address: Any
    authkey: bytes

    def enter(self) -> Any:
        """Return a pipe to the server, which knows of this process until that is closed."""
        pipe = multiprocessing.connection.Client(self.address, authkey=self.authkey)
        pipe.send(("hello", os.getpid()))
        return pipe


class StoreServer:
    """Knows the processes that write a run, and answers their `RemoteStore` objects.

    Parameters
    ----------
    store : Store
        Locked by this process.

    Raises
    ------
    StoreWriteError
        If this machine has no way for them to connect.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._one_at_a_time = threading.Lock()
        self._changed = threading.Condition()
        self._pids: set[int] = set()
        self._is_closed = False
        authkey = os.urandom(32)
        self._listener = _listener(authkey)
        self.door = Door(self._listener.address, authkey)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def wait(self, patience: float) -> set[int]:
        """Wait until no other process is there, so many seconds; return those that are."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pids, timeout=patience)
            return set(self._pids)

    def end_workers(self, patience: float) -> None:
        """Wait for the processes that write, and end those that do not end by themselves."""
        for pid in self.wait(patience):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        self.wait(patience)

    def close(self) -> None:
        """Stop answering."""
        self._is_closed = True
        # A thread that waits in accept is not woken when its socket is closed.
        with contextlib.suppress(*_LOST):
            address, authkey = self.door.address, self.door.authkey
            multiprocessing.connection.Client(address, authkey=authkey).close()
        self._acceptor.join(timeout=5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                pipe = self._listener.accept()
            except _LOST:
                time.sleep(0.01)  # who connected died, or is none of ours, or there is no room
                continue
            threading.Thread(target=self._serve, args=(pipe,), daemon=True).start()

    def _serve(self, pipe: Any) -> None:
        pid = 0
        try:
            with contextlib.suppress(*_LOST), pipe:
                while True:
                    kind, content = pipe.recv()
                    if kind == "hello":
                        pid = content
                        self._note(pid, is_there=True)
                        continue
                    with self._one_at_a_time:
                        if self._is_closed:
                            return
                        reply = answer(self._store, content)
                    pipe.send(reply)
        finally:
            self._note(pid, is_there=False)

    def _note(self, pid: int, is_there: bool) -> None:
        with self._changed:
            (self._pids.add if is_there else self._pids.discard)(pid)
            self._changed.notify_all()


def _listener(authkey: bytes) -> multiprocessing.connection.Listener:
    # A path may be too long for a socket, where temporary files lie deep.
    for address in (None, ("127.0.0.1", 0)):
        try:
            return multiprocessing.connection.Listener(address, backlog=128, authkey=authkey)
        except OSError as error:
            reason = error
    raise StoreWriteError(
        f"Other processes cannot connect to this one: {reason}. Nothing was drawn. Pass cores=1, "
        "or set TMPDIR to a directory with a short path."
    )
