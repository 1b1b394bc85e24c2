"""Neither continue nor return a run that has not passed its rehearsals.

If the same call created the run, the run is removed, unless a chain has passed all its rehearsals:
its draws are of no use, and once the cause is mended the same call can create it again. A run that
an earlier call created is kept and marked as failed.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from checkpoint.chains.population import rehearse_population
from checkpoint.chains.rehearsal import rehearse_recorded
from checkpoint.errors import IncompleteStateError, RunLockedError, StoreWriteError
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import write_root
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.rehearsed import STAYS, failure_of, read_rehearsed
from checkpoint.runs.active import ActiveRun, take, task_of
from checkpoint.runs.failed_run import refuse
from checkpoint.stores import Store

__all__ = ["has_passed", "refusing", "rehearse_chains", "rehearse_finished", "take_back"]

_TAKEN_BACK = "Nothing of the run was kept."


@contextlib.contextmanager
def refusing(run: ActiveRun) -> Iterator[None]:
    """Raise the recorded reason if a rehearsal fails in the block; remove the run if it is new.

    When the block is left, all worker processes have ended. The caller holds the lock.
    """
    try:
        yield
    except IncompleteStateError as error:
        reason = failure_of(read_rehearsed(run.store, run.manifest))
        if not reason:
            raise
        end = _TAKEN_BACK if take_back(run) else STAYS
        raise IncompleteStateError(f"{run.store.name}: {reason} {end}") from error


def take_back(run: ActiveRun) -> bool:
    """Remove a run that is new and has failed, unless a chain passed all its rehearsals.

    Return whether it was removed.

    Notes
    -----
    Durability: first the root is replaced by one without a run, then the nodes below are removed.
    """
    facts = read_rehearsed(run.store, run.manifest)
    has_passed = any(not fact.due(run.manifest.tune, run.n_rows) for fact in facts)
    if not run.is_new or has_passed or not any(fact.failure for fact in facts):
        return False
    write_root.write_placeholder(run.store, run.manifest.zarr_format)
    return True


def rehearse_chains(run: ActiveRun, records: Sequence[ChainRecord], keep: bool = True) -> None:
    """Rehearse recorded draws for which no passed rehearsal is recorded.

    A new run has such draws only if it was killed in the middle of a rehearsal.

    Parameters
    ----------
    run : ActiveRun
    records : sequence of ChainRecord
    keep : bool
        Whether the outcome is recorded; the caller then holds the lock.

    Raises
    ------
    IncompleteStateError
        If a repeated draw differs.
    """
    facts = read_rehearsed(run.store, run.manifest)
    tasks = [task_of(run, record.chain, 0.0, facts[record.chain]) for record in records]
    global_state = np.random.get_state()
    try:
        with refusing(run), run.preparation.blas_limiter():
            if run.preparation.is_population:
                rehearse_population(tasks, records, keep)
                return
            for task, record in zip(tasks, records, strict=True):
                rehearse_recorded(task, record, keep)
    finally:
        np.random.set_state(global_state)


def rehearse_finished(run: ActiveRun, records: Sequence[ChainRecord]) -> None:
    """Rehearse a run before it is returned, if it is not known to have passed.

    The outcome is recorded if the store can be written and no other process writes it.

    Raises
    ------
    IncompleteStateError
        If a rehearsal fails.
    """
    facts = read_rehearsed(run.store, run.manifest)
    if not any(
        fact.due(run.manifest.tune, min(run.n_rows, record.n_rows))
        for fact, record in zip(facts, records, strict=True)
    ):
        return
    try:
        take(run.store)
    except (RunLockedError, StoreWriteError):
        rehearse_chains(run, records, keep=False)
        return
    try:
        writing = replace(run, store=run.store.writer())
        rehearse_chains(writing, records)
    finally:
        run.store.unlock()


def has_passed(store: Store, manifest: Manifest, n_rows: int) -> bool:
    """Return whether all chains of a run are known to have passed, up to a number of draws.

    Raises
    ------
    IncompleteStateError
        If a rehearsal has failed.
    """
    facts = read_rehearsed(store, manifest)
    refuse(store, facts)
    return not any(fact.due(manifest.tune, n_rows) for fact in facts)
