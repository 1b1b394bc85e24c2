"""A worker process ends with its parent, and never starts a run itself."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

from checkpoint.errors import ArgumentError

__all__ = ["check_has_guard", "end_with"]

_LOOK_INTERVAL = 0.5

_PR_SET_PDEATHSIG = 1


def check_has_guard() -> None:
    """Check that this is no worker process that imports the main script as it begins.

    Raises
    ------
    ArgumentError
        If it is: the script lacks the guard ``if __name__ == "__main__"``.
    """
    # What `Process.start` looks at for the same reason.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ArgumentError(
            "checkpoint.sample was called while a worker process imports the main script, which "
            "would sample again in each worker. Nothing was written by this process. In the "
            'script, call it below `if __name__ == "__main__":`.'
        )


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
    On Linux the kernel kills this process when its parent ends. Elsewhere, and for a process that
    is not the parent, a thread checks twice a second whether it lives.
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
