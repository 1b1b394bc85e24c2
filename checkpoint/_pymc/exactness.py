"""Compile so that a cold and a warm compile cache give the same bits: without fastmath."""

import contextlib
import threading
from collections.abc import Iterator

import pytensor

__all__ = ["compile_from_now_on", "exact_compilation"]


class _Exactness:
    """How many ask at a time, in threads perhaps, to compile without fastmath."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._before = True

    def begin(self) -> None:
        with self._lock:
            if not self._n_users:
                self._before = pytensor.config.numba__fastmath
                pytensor.config.numba__fastmath = False
            self._n_users += 1

    def end(self) -> None:
        with self._lock:
            self._n_users -= 1
            if not self._n_users:
                pytensor.config.numba__fastmath = self._before


_EXACTNESS = _Exactness()


@contextlib.contextmanager
def exact_compilation(fastmath: bool) -> Iterator[None]:
    """Compile without fastmath, so that a cold and a warm compile cache give the same bits."""
    if fastmath:
        yield
        return
    _EXACTNESS.begin()
    try:
        yield
    finally:
        _EXACTNESS.end()


def compile_from_now_on(fastmath: bool) -> None:
    """Compile in this process with or without fastmath, whatever its default is."""
    pytensor.config.numba__fastmath = fastmath
