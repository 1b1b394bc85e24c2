"""Serves a store to processes that do not write it themselves, when they are not ours to start."""

import contextlib
import multiprocessing.connection
import os
import threading
from typing import Any

from checkpoint.stores.base import Store
from checkpoint.stores.remote import RemoteStore, answer

__all__ = ["StoreServer"]


class StoreServer:
    """Answers `RemoteStore` objects of other processes, in threads of this one.

    Parameters
    ----------
    store : Store
        Locked by this process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._one_at_a_time = threading.Lock()
        self._authkey = os.urandom(32)
        self._listener = multiprocessing.connection.Listener(authkey=self._authkey)
        self._is_closed = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def remote(self) -> RemoteStore:
        """Return the store for another process; it may be pickled, and connects when first used."""
        return RemoteStore(self._store.name, self._listener.address, self._authkey)

    def close(self) -> None:
        """Stop answering."""
        self._is_closed = True
        # A thread that waits in accept is not woken when its socket is closed.
        with contextlib.suppress(OSError, EOFError, multiprocessing.AuthenticationError):
            multiprocessing.connection.Client(self._listener.address, authkey=self._authkey).close()
        self._acceptor.join(timeout=5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                pipe = self._listener.accept()
            except (OSError, EOFError, multiprocessing.AuthenticationError):
                continue  # who connected died, or is none of ours
            threading.Thread(target=self._serve, args=(pipe,), daemon=True).start()

    def _serve(self, pipe: Any) -> None:
        with contextlib.suppress(OSError, EOFError), pipe:
            while not self._is_closed:
                _, request = pipe.recv()
                with self._one_at_a_time:
                    reply = answer(self._store, request)
                pipe.send(reply)
