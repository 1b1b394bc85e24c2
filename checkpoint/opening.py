"""`open`: a read-only view of a run, without the model, beside a live writer or after a crash."""

from typing import Any

from checkpoint.errors import FailedRunWarning, NotARunError, warn_caller
from checkpoint.hierarchy import read_root
from checkpoint.interop.zarr_trace_store.run import PyMCRun
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.reading.damage_report import Verification
from checkpoint.reading.run import RecordedRun, status_now
from checkpoint.reading.status import Status
from checkpoint.recording.record import warn_of_damage
from checkpoint.recording.rehearsed import STAYS
from checkpoint.stores import as_store

__all__ = ["Run", "open", "status_of"]


class Run(RecordedRun):
    """The draws that a store had recorded when it was opened; open it again to see more.

    Only recorded draws are shown. If chains have recorded different numbers of draws, they are cut
    to one length: the chains and the length are chosen to keep the most draws, as `pm.sample`
    does after Ctrl-C when it discards warm-up.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the run as its store: unpickled, it shows what is recorded by then."""
        return open, (self._store,)

    def verify(
        self, replay: int = 0, *, model: Any = None, random_seed: Any = None, **arguments: Any
    ) -> Verification:
        """Check everything in the store against its checksums; repeat draws, if asked to.

        Parameters, return value and errors are those of `checkpoint.verify`.

        Notes
        -----
        Durability: nothing is written, and no lock is taken.
        """
        from checkpoint.checking import verify  # only here: most who open a run do not verify it

        return verify(self._store, replay, model=model, random_seed=random_seed, **arguments)


def open(store: Any) -> "Run | PyMCRun":
    """Open a run for reading.

    Nothing in the store is changed, and no code in it is run. A store that PyMC's own ZarrTrace
    wrote with zarr 2 is shown in the same way, without the states of the sampler.

    Parameters
    ----------
    store : path, URL, or store
        As in `checkpoint.sample`.

    Returns
    -------
    Run, or PyMCRun for a store of PyMC's ZarrTrace

    Raises
    ------
    RunNotFoundError
        If the store is empty.
    NotARunError, FormatVersionError, DamagedStoreError
        If the store holds something else, or cannot be read.

    Warns
    -----
    DamageWarning
        If recorded draws were lost to damage.
    FailedRunWarning
        If a rehearsal of the run failed, with the reason.

    Notes
    -----
    Durability: all draws that a run shows are durable.
    """
    place = as_store(store)
    try:
        manifest = read_root.existing_manifest(place)
    except NotARunError:
        if (found := PyMCStore.find(place)) is None:
            raise
        return PyMCRun(found)
    run = Run(place, manifest)
    warn_of_damage(run._records)
    if reason := run.failure:
        text = f"{run.name}: a rehearsal of the run failed: {reason} {STAYS}"
        warn_caller(text, FailedRunWarning)
    return run


def status_of(store: Any, diagnostics: str = "quick") -> Status:
    """Return how far a run is, with fewer reads than to open it first; see `Run.status`.

    Parameters
    ----------
    store : path, URL, or store
        As in `open`.
    diagnostics : {"quick", "all", "none"}

    Raises
    ------
    ArgumentError, RunNotFoundError, NotARunError, FormatVersionError, DamagedStoreError
        As `open` and `Run.status`.
    """
    place = as_store(store)
    try:
        return status_now(place, diagnostics)
    except NotARunError:
        if (found := PyMCStore.find(place)) is None:
            raise
        return PyMCRun(found).status(diagnostics)
