"""Serve a store over a socket to processes that this package did not start."""

import contextlib
import multiprocessing
import os
import signal
import socket
import struct
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from checkpoint.errors import StoreWriteError
from checkpoint.stores.base import Store
from checkpoint.stores.remote import answer

__all__ = ["Door", "StoreServer"]

_AFTER_A_SIGNAL = 10.0
"""Seconds that a process has to end after a signal."""

_PATIENCE = 60.0
"""Seconds that a client waits for the server to authenticate."""

_FIRST_WORD = 5.0
"""Seconds that a client has to authenticate after it has connected."""

_PLACES = ("/tmp", "/var/tmp")
"""Further folders for the socket: the path of the default one may be too long for a socket."""

_LOST = (OSError, EOFError, ValueError, multiprocessing.AuthenticationError)


@dataclass(frozen=True)
class Door:
    """The address and the key of a `StoreServer`; it can be pickled."""

    address: str
    authkey: bytes

    def enter(self) -> Any:
        """Return a pipe to the server, which lists this process until the pipe is closed."""
        with self.knock() as connected:
            _set_patience(connected, _PATIENCE)
            pipe = Connection(os.dup(connected.fileno()))
            answer_challenge(pipe, self.authkey)
            deliver_challenge(pipe, self.authkey)
            _set_patience(connected, 0)
        pipe.send(("hello", os.getpid()))
        return pipe

    def knock(self) -> socket.socket:
        """Return a socket that is connected but not authenticated."""
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.connect(self.address)
        except BaseException:
            connected.close()
            raise
        return connected


class StoreServer:
    """Answers the `RemoteStore` objects of other processes, and lists those processes.

    Parameters
    ----------
    store : Store
        Locked by this process.

    Raises
    ------
    StoreWriteError
        If no socket can be made for them to connect to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._one_at_a_time = threading.Lock()
        self._changed = threading.Condition()
        self._pids: set[int] = set()
        self._is_closed = False
        self._listener, self._folder = _listening(store.name)
        self.door = Door(self._listener.getsockname(), os.urandom(32))
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def wait(self, patience: float) -> set[int]:
        """Wait until no process is connected, at most `patience` seconds; return the remaining."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pids, timeout=patience)
            return set(self._pids)

    def end_workers(self, patience: float) -> None:
        """Wait for the connected processes, and end those that do not end by themselves.

        Their commits stay. A process that was stopped ignores SIGTERM; SIGKILL ends it.
        """
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            for pid in self.wait(patience):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            patience = min(patience, _AFTER_A_SIGNAL)
        self.wait(patience)

    def close(self) -> None:
        """Stop answering."""
        self._is_closed = True
        # A thread that waits in accept is not woken when its socket is closed.
        with contextlib.suppress(*_LOST):
            self.door.knock().close()
        self._acceptor.join(timeout=5)
        self._listener.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                connected, _ = self._listener.accept()
            except _LOST:
                time.sleep(0.01)  # the client died, or there are too many open files
                continue
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        pid = 0
        try:
            with contextlib.suppress(*_LOST), self._welcomed(connected) as pipe:
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

    def _welcomed(self, connected: socket.socket) -> Any:
        """Authenticate a client within `_FIRST_WORD` seconds, and return a pipe to it.

        This is not done in the thread that accepts connections: a silent client would make all
        others wait.
        """
        with connected:
            _set_patience(connected, _FIRST_WORD)
            pipe = Connection(os.dup(connected.fileno()))
            try:
                deliver_challenge(pipe, self.door.authkey)
                answer_challenge(pipe, self.door.authkey)
            except BaseException:
                pipe.close()
                raise
            _set_patience(connected, 0)
        return pipe

    def _note(self, pid: int, is_there: bool) -> None:
        with self._changed:
            (self._pids.add if is_there else self._pids.discard)(pid)
            self._changed.notify_all()


def _listening(name: str) -> tuple[socket.socket, tempfile.TemporaryDirectory[str]]:
    """Return a listening socket and its folder, which only this user can enter.

    Raises
    ------
    StoreWriteError
        If none can be made. A port is no alternative, as every user of the machine can reach it.
    """
    reason: object = "this system has no sockets with a path"
    for place in (tempfile.gettempdir(), *_PLACES) if hasattr(socket, "AF_UNIX") else ():
        listener = socket.socket(socket.AF_UNIX)
        folder = None
        try:
            folder = tempfile.TemporaryDirectory(prefix="checkpoint-", dir=place)
            listener.bind(os.path.join(folder.name, "door"))
            listener.listen(128)
            return listener, folder
        except OSError as error:
            reason = error
            listener.close()
            if folder is not None:
                folder.cleanup()
    raise StoreWriteError(
        f"{name}: other processes cannot connect to this one: {reason}. Nothing was drawn. Pass "
        "cores=1, or set TMPDIR to a directory with a short path."
    )


def _set_patience(connected: socket.socket, seconds: float) -> None:
    """Set the timeout of reads and writes of a connection; 0 means no timeout."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        connected.setsockopt(socket.SOL_SOCKET, option, value)
