"""Exchange messages with a worker without blocking, even if it is stopped or dead."""

import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

__all__ = ["Channel"]

_BLOCK = 1 << 20


class Channel:
    """The parent's end of a `multiprocessing.Pipe`, read and written without blocking.

    The other end is a plain connection, which blocks. The bytes between them are those of
    `Connection.send`: a length, then a pickle.

    Parameters
    ----------
    connection : Connection
        The channel takes over its socket and closes the connection.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._socket.setblocking(False)
        connection.close()
        self._received = bytearray()
        self._to_send: deque[memoryview] = deque()
        self.has_ended = False

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_more_to_send(self) -> bool:
        return bool(self._to_send)

    def send(self, message: Any) -> None:
        """Queue a message, and send as much as the other end has room for."""
        data = ForkingPickler.dumps(message)
        n = len(data)
        header = struct.pack("!i", n) if n <= 0x7FFFFFFF else struct.pack("!iQ", -1, n)
        self._to_send += [memoryview(header), memoryview(data)]
        self.send_more()

    def send_more(self) -> None:
        """Send as much of the queue as the other end has room for."""
        while self._to_send:
            try:
                n = self._socket.send(self._to_send[0][:_BLOCK])
            except BlockingIOError:
                return
            except OSError:  # nobody is there; the end of what is to be read says so
                self._to_send.clear()
                return
            rest = self._to_send.popleft()[n:]
            if rest:
                self._to_send.appendleft(rest)

    def receive(self) -> Iterator[Any]:
        """Yield the messages that have arrived whole; `has_ended` tells whether more can come."""
        while not self.has_ended:
            try:
                data = self._socket.recv(_BLOCK)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it ended without reading all; what it sent is there yet
                data = self._last_words()
            except OSError:
                data = b""
            self.has_ended = not data
            self._received += data
        yield from self._whole()

    def _last_words(self) -> bytes:
        try:
            return self._socket.recv(_BLOCK)
        except OSError:
            return b""

    def close(self) -> None:
        self.has_ended = True
        self._to_send.clear()
        self._socket.close()

    def _whole(self) -> Iterator[Any]:
        while len(self._received) >= 4:
            [n], first = struct.unpack_from("!i", self._received), 4
            if n == -1:
                if len(self._received) < 12:
                    return
                [n], first = struct.unpack_from("!Q", self._received, 4), 12
            if len(self._received) < first + n:
                return
            data = bytes(memoryview(self._received)[first : first + n])
            del self._received[: first + n]
            yield ForkingPickler.loads(data)
