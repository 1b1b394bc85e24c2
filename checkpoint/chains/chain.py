"""Draw one chain, from its start or its last recorded draw, to its end."""

import numpy as np

from checkpoint.adapters.sampler import Point, Sampler
from checkpoint.chains.driver import Course, Observer, drive
from checkpoint.chains.rehearsal import Rehearsal, replay_last_draw
from checkpoint.chains.restoring import check_has_state, ready
from checkpoint.chains.task import ChainTask
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover
from checkpoint.recording.writer import ChainWriter

__all__ = ["prepare_sampler", "run_chain", "writer_of"]


def run_chain(task: ChainTask, observer: Observer) -> None:
    """Draw until the chain has all its draws, or the observer asks to stop.

    Raises
    ------
    ChainError
        If a step method raises. What was recorded before is committed.

    Notes
    -----
    Durability: on return every draw is durable; a finished chain is sealed.
    """
    global_state = np.random.get_state()
    try:
        record = recover(task.store, task.manifest, task.chain)
        rehearsal = Rehearsal(task, record)
        sampler, point = prepare_sampler(task, record)
        writer = writer_of(task, record, sampler)
        rehearsal.look_at(writer)
        drive(_course_of(task), sampler, point, writer, rehearsal, observer)
    finally:
        # Pickled step methods may draw from numpy's global generator, which is the caller's.
        np.random.set_state(global_state)


def _course_of(task: ChainTask) -> Course:
    manifest = task.manifest
    return Course(task.store.name, task.chain, manifest.tune, task.n_rows, manifest.total)


def writer_of(task: ChainTask, record: ChainRecord, sampler: Sampler) -> ChainWriter:
    """Return a writer that records a chain after its last recorded draw."""
    run = task.run
    return ChainWriter(
        run.store,
        run.manifest,
        record,
        run.plan,
        run.compute,
        sampler,
        run.commit_interval,
        run.clock,
    )


def prepare_sampler(task: ChainTask, record: ChainRecord) -> tuple[Sampler, Point]:
    """Return sampler and point, ready for the chain's next draw."""
    if record.n_rows:
        check_has_state(task.manifest, record, record.n_rows - 1)
        replay_last_draw(task, record)
    return ready(task, record, record.n_rows)
