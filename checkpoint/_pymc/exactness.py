"""Compile so that a cold and a warm compile cache give the same bits: without fastmath."""

import contextlib
import os
import threading
from collections.abc import Iterator

import pytensor

__all__ = ["compile_from_now_on", "compiling", "exact_compilation"]


class _Compiling:
    """A lock among threads; it is free in a forked process."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.lock = threading.RLock()


_COMPILING = _Compiling()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Let only one thread of this process compile at a time.

    While PyTensor infers shapes it sets flags (`cxx`, `optdb__max_use_ratio`) for all threads. A
    graph that another thread rewrites meanwhile comes out different. If two threads overlap, the
    second restores the values that the first had set, not the original ones.
    """
    with _COMPILING.lock:
        yield


class _Exactness:
    """Counts the users, over all threads, that need fastmath off; the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._before = True

    def acquire(self) -> None:
        with self._lock:
            if not self._n_users:
                self._before = pytensor.config.numba__fastmath
                pytensor.config.numba__fastmath = False
            self._n_users += 1

    def release(self) -> None:
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
    _EXACTNESS.acquire()
    try:
        yield
    finally:
        _EXACTNESS.release()


def compile_from_now_on(fastmath: bool) -> None:
    """Set whether this process compiles with fastmath, from now on."""
    pytensor.config.numba__fastmath = fastmath
