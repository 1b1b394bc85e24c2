"""Processes that end when the one that began the run does, however it dies."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

__all__ = ["end_with"]

_LOOK_INTERVAL = 0.5

_PR_SET_PDEATHSIG = 1


def end_with(pid: int, is_parent: bool) -> None:
    """End this process when another ends.

    Parameters
    ----------
    pid : int
        Of the other process.
    is_parent : bool
        Whether it is the parent of this one. A fork server is the parent of what it forks.

    Notes
    -----
    On Linux the kernel kills the children of a process. Elsewhere, and for others than the
    parent, a thread looks for the process twice a second.
    """
    if is_parent:
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != pid:
            os._exit(1)
    if not is_parent or sys.platform != "linux":
        threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    while True:
        time.sleep(_LOOK_INTERVAL)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)
