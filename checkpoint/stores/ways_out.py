"""Errors of the operating system, as errors of this package that name the remedy."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Any

from checkpoint.errors import CheckpointError, StoreUnreachableError, StoreWriteError

__all__ = ["explained", "readable", "unreadable"]

_REMEDIES = {
    errno.ENOSPC: "Free space, or inodes if there is space (df -h, df -i)",
    errno.EDQUOT: "Free space, or have the quota raised",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or choose another file system",
    errno.ENAMETOOLONG: "Choose a shorter path, or shorter names in the model",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.ENFILE: "End programs that hold files open, or raise the limit of the machine (file-max)",
    errno.EACCES: "Fix the permissions",
    errno.EPERM: "Change what forbids it (the owner, an immutable file, a security policy)",
    errno.EROFS: "Mount the file system for writing",
    errno.EIO: "Find the cause (dmesg, smartctl) and copy the store to a sound disk",
    errno.ESTALE: "Mount the network file system again",
    errno.ENOENT: "Make the folder that is missing",
    errno.ENOTDIR: "Choose a path that leads through folders only",
}
"""The remedy for each error number of the operating system."""


def explained(
    name: str, place: Any, doing: str = "write to"
) -> contextlib.AbstractContextManager[None]:
    """Turn an error of the operating system into one that names the remedy.

    Parameters
    ----------
    name : str
        Name of the store.
    place : path
        Named if the error names no file.
    doing : str
        What was tried, between "Cannot" and the name of the store.

    Raises
    ------
    StoreWriteError
        In place of an `OSError`.
    """
    return _replaced(
        lambda error: StoreWriteError(
            f"Cannot {doing} {name}: {error.strerror or error} ({error.filename or place}). "
            f"{_left(error)} {_remedy(error)}, then run the same command again."
        )
    )


def readable(name: str, what: str) -> contextlib.AbstractContextManager[None]:
    """Turn an error of the operating system into one that says what cannot be read.

    Raises
    ------
    StoreUnreachableError
        In place of an `OSError`.
    """
    return _replaced(lambda error: unreadable(name, what, error))


@contextlib.contextmanager
def _replaced(make: Callable[[OSError], CheckpointError]) -> Iterator[None]:
    """Raise what is made of an `OSError`, unless it is an error of this package already."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise make(error) from error


def unreadable(name: str, what: str, error: OSError) -> StoreUnreachableError:
    """Return the error of a store in which something cannot be read.

    >>> str(unreadable("fit.zarr", "zarr.json", PermissionError(13, "Permission denied")))
    'fit.zarr: zarr.json cannot be read: Permission denied. Nothing was changed. Fix the \
permissions, then do this again.'
    """
    return StoreUnreachableError(
        f"{name}: {what} cannot be read: {error.strerror or error}. Nothing was changed. "
        f"{_remedy(error)}, then do this again."
    )


def _left(error: OSError) -> str:
    """Return what is known of the draws that were recorded before."""
    if error.errno == errno.EIO:
        return (
            "The disk or the mount failed, so it is not known whether what was recorded before is "
            "intact: check it with checkpoint verify."
        )
    return "What was recorded before is intact."


def _remedy(error: OSError) -> str:
    """Return what to do, without a full stop."""
    return _REMEDIES.get(error.errno or 0, "Fix the cause (the disk, the mount, the network)")
