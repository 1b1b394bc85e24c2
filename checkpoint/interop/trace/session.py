"""The session in which a `ZarrTrace` writes a run, and the place for that run."""

import contextlib
import os
import sys
from typing import Any

from checkpoint._pymc.progress import announce
from checkpoint.errors import (
    CheckpointError,
    DamagedStoreError,
    ExactnessWarning,
    NotARunError,
    RunExistsError,
    warn_caller,
)
from checkpoint.hierarchy import read_root, write_root
from checkpoint.recording.showing import show_sealed
from checkpoint.runs.active import ActiveRun, take
from checkpoint.runs.arguments import UNSET
from checkpoint.runs.refusing import take_back
from checkpoint.runs.session_log import SessionLog
from checkpoint.stores import Store
from checkpoint.stores.serving import StoreServer

__all__ = ["Session", "make_room", "unset_of_ours", "warn_of_fastmath"]


_PATIENCE = 60.0
"""Seconds that processes of PyMC's have to end their draw; PyMC itself gives them two."""


class Session:
    """The session in which this process, and worker processes of PyMC's, write a run.

    Parameters
    ----------
    run : ActiveRun
        The run, whose store is locked.
    in_workers : bool
        Whether other processes draw.

    Attributes
    ----------
    clock : SessionClock
        The time spent, which each commit keeps.
    seconds : float or None
        The time that sampling took, to be set by the caller if it is known.
    """

    def __init__(self, run: ActiveRun, in_workers: bool) -> None:
        self.run = run
        self.has_ended = False
        self.seconds: float | None = None  # as `pm.sample` measures them
        cores = run.preparation.cores
        self._log = SessionLog(run.store, run.manifest, run.records(), run.n_rows, cores)
        self._log.__enter__()
        self.clock = self._log.clock
        self._pid = os.getpid()
        self._server = StoreServer(run.store) if in_workers else None
        self.door = None if self._server is None else self._server.door

    def end(self) -> None:
        """End the session, finish a complete run, and let other processes write.

        This waits for workers that are still in a draw: commits that they made later would be
        taken for those of a second writer.
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
            self._log.end(sys.exc_info()[1], self.seconds)
            if take_back(self.run):
                return
            with contextlib.suppress(CheckpointError):  # what has stopped the run is said already
                show_sealed(self.run.store, self.run.manifest)
            if self._log.is_complete:
                self.run.store.finish()
        finally:
            self.run.store.unlock()


def make_room(store: Store, zarr_format: int, overwrite: bool) -> None:
    """Begin an empty run in a store; erase what is there if that is allowed.

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
        write_root.write_placeholder(store, zarr_format)
    finally:
        store.unlock()


def _check_room(store: Store, overwrite: bool) -> bool:
    """Check that a store is empty, or may be erased; return whether it must be."""
    try:
        found = read_root.read_manifest(store)
    except (NotARunError, DamagedStoreError):
        if not (overwrite and read_root.is_zarr_group(store)):
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
    """Return the compressor, with `UNSET` of this package in place of PyMC's."""
    return UNSET if type(compressor).__name__ == "_UnsetType" else compressor


def warn_of_fastmath(store: Store) -> None:
    """Warn that a run will not be exact to the last bit, and say how it would be."""
    warn_caller(
        f"{store.name}: PyMC compiled this step method with fastmath, so a cold and a warm compile "
        "cache differ in the last bit, and a continued run may. To be exact, sample within "
        "`with checkpoint.ZarrTrace(...) as trace:`, or within "
        "pytensor.config.change_flags(numba__fastmath=False).",
        ExactnessWarning,
    )
