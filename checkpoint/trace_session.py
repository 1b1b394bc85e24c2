"""Where a `ZarrTrace` may write, and the time in which it does."""

import os
import warnings
from typing import Any

from checkpoint import hierarchy
from checkpoint._pymc.progress import announce
from checkpoint.arguments import UNSET
from checkpoint.errors import DamagedStoreError, ExactnessWarning, NotARunError, RunExistsError
from checkpoint.run import ActiveRun, take
from checkpoint.stores import Store, StoreServer

__all__ = ["Session", "make_room", "unset_of_ours", "warn_of_fastmath"]


_PATIENCE = 60.0
"""Seconds that processes of PyMC's have to end their draw; PyMC gives them two."""


class Session:
    """The time in which this process, and those of PyMC's, write a run.

    Parameters
    ----------
    run : ActiveRun
        Its store is locked.
    in_workers : bool
        Whether other processes draw.
    """

    def __init__(self, run: ActiveRun, in_workers: bool) -> None:
        self.run = run
        self.has_ended = False
        self._pid = os.getpid()
        self._server = StoreServer(run.store) if in_workers else None
        self.door = None if self._server is None else self._server.door

    def end(self) -> None:
        """Tidy up a complete run, and let others write.

        Processes that are still in a draw are waited for: what they commit then would be taken
        for the work of a second writer.
        """
        if self.has_ended or os.getpid() != self._pid:
            return
        self.has_ended = True
        try:
            if self._server is not None:
                if self._server.wait(2.0):
                    announce(f"{self.run.store.name}: waiting for chains to end their draw")
                self._server.end_workers(_PATIENCE)
                self._server.close()
            if all(record.n_rows == self.run.manifest.total for record in self.run.records()):
                self.run.store.finish()
        finally:
            self.run.store.unlock()


def make_room(store: Store, zarr_format: int, overwrite: bool) -> None:
    """Begin an empty run in a store, in the place of what may be erased.

    Raises
    ------
    RunExistsError, NotARunError
        If something is there and must not be erased. Nothing is changed.
    RunLockedError
        If another process writes there.
    """
    _check_room(store, overwrite)
    take(store)
    try:
        if _check_room(store, overwrite):
            store.remove_all()
        hierarchy.begin(store, zarr_format)
    finally:
        store.unlock()


def _check_room(store: Store, overwrite: bool) -> bool:
    """Hold that a store is empty, or may be erased; return whether it must be."""
    try:
        found = hierarchy.read_manifest(store)
    except (NotARunError, DamagedStoreError):
        if not (overwrite and hierarchy.is_zarr_group(store)):
            raise
        return True
    if found is not None and not overwrite:
        raise RunExistsError(
            f"{store.name} holds a run. Nothing was changed. Open it with "
            "ZarrTrace.from_store, continue it with checkpoint.sample, choose another path, or "
            "pass overwrite=True to erase it."
        )
    return found is not None


def unset_of_ours(compressor: Any) -> Any:
    """Return the compressor; `UNSET` of this package for that of PyMC's."""
    return UNSET if type(compressor).__name__ == "_UnsetType" else compressor


def warn_of_fastmath(store: Store) -> None:
    """Say that a run will be exact in law only, and how it would be to the bit."""
    warnings.warn(
        f"{store.name}: PyMC compiled this step method with fastmath, so a cold and a warm compile "
        "cache differ in the last bit, and a continued run may. To be exact, sample within "
        "`with checkpoint.ZarrTrace(...) as trace:`, or within "
        "pytensor.config.change_flags(numba__fastmath=False).",
        ExactnessWarning,
        stacklevel=5,  # the call of pm.sample
    )
