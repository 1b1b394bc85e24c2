"""Chains that step together, as DEMetropolis needs: each proposal looks at the other chains.

All chains step in this process, in turn, as PyMC's driver does; the draws do not depend on how
many processes are used. Chains may have been killed at different draws: they begin again at the
first draw that one of them lacks, and draws that a chain has already are not recorded twice.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from checkpoint._pymc.results import log_warnings_of
from checkpoint._pymc.steps import (
    copy_generator,
    copy_step,
    copy_step_shallowly,
    flatten,
    link_population,
    start_chain,
)
from checkpoint.adapters import Adapter, make_adapter
from checkpoint.adapters.fields import set_attribute
from checkpoint.chain import ChainTask, Observer, check_has_state, point_at, writer_of
from checkpoint.errors import ChainError, CheckpointError
from checkpoint.recovery import ChainRecord, recover
from checkpoint.rehearsal import step_once
from checkpoint.rows import Values
from checkpoint.writer import ChainWriter

__all__ = ["repeat_together", "run_population"]


def run_population(tasks: Sequence[ChainTask], observer: Observer) -> None:
    """Run all chains in lock step.

    Raises
    ------
    ChainError
        If a step method raises. What was recorded before is committed.

    Notes
    -----
    Durability: as of `run_chain`, for every chain.
    """
    manifest = tasks[0].manifest
    records = [recover(task.store, manifest, task.chain) for task in tasks]
    first = min(record.n_rows for record in records)
    steps, adapters, population = _at_draw(tasks, records, first)
    writers = [
        writer_of(task, record, of_task, step)
        for task, record, of_task, step in zip(tasks, records, adapters, steps, strict=True)
    ]
    try:
        _draw(tasks, steps, writers, population, first, observer)
    except CheckpointError:
        raise
    except BaseException as error:
        for writer in writers:
            writer.commit()
        if not isinstance(error, Exception):
            raise
        raise ChainError(
            f"{tasks[0].store.name}: the population failed at draw {writers[0].n_rows}: "
            f"{type(error).__name__}: {error}. All draws before it are recorded. "
            "Mend the cause, then run the same command again."
        ) from error
    for writer in writers:
        writer.commit()
        if writer.n_rows == manifest.total:
            writer.seal()


def repeat_together(
    tasks: Sequence[ChainTask], records: Sequence[ChainRecord], draw_idx: int
) -> list[dict[str, Values]]:
    """Make a draw of all chains, restored from the rows before it; return its row of each chain."""
    steps, adapters, population = _at_draw(tasks, records, draw_idx)
    return [
        step_once(task, step, of_task, point, draw_idx)
        for task, step, of_task, point in zip(tasks, steps, adapters, list(population), strict=True)
    ]


def _at_draw(
    tasks: Sequence[ChainTask], records: Sequence[ChainRecord], draw_idx: int
) -> tuple[list[Any], list[list[Adapter]], list[Any]]:
    """Return step methods, adapters and points of all chains, ready for a draw."""
    manifest = tasks[0].manifest
    steps: list[Any] = []
    of_tasks: list[list[Adapter]] = []
    population: list[Any] = []
    for task, record in zip(tasks, records, strict=True):
        step = _copy_for_chain(task)
        rng = copy_generator(task.rng)
        # The driver for populations sets the generators only.
        start_chain(step, rng, manifest.tune, manifest.draws, sequential=False)
        adapters = [make_adapter(schema) for schema in task.schemas]
        point = dict(task.start)
        if draw_idx:
            check_has_state(manifest, record, draw_idx - 1)
            for adapter, method in zip(adapters, flatten(step), strict=True):
                adapter.restore(method, record, draw_idx - 1)
            point = point_at(manifest, record, draw_idx - 1)
        population.append(point)
        steps.append(step)
        of_tasks.append(adapters)
    if tasks[0].shares_state and draw_idx:
        _share_again(tasks, steps)
    for step, task in zip(steps, tasks, strict=True):
        link_population(step, population, task.chain)
    return steps, of_tasks, population


def _draw(
    tasks: Sequence[ChainTask],
    steps: Sequence[Any],
    writers: Sequence[ChainWriter],
    population: list[Any],
    first: int,
    observer: Observer,
) -> None:
    tune = tasks[0].manifest.tune
    for draw_idx in range(first, tasks[0].n_rows):
        if observer.should_stop():
            return
        updates = []
        for step, point in zip(steps, list(population), strict=True):
            if draw_idx == tune:
                step.stop_tuning()
            updates.append(step.step(point))
        for task, writer, (point, stats) in zip(tasks, writers, updates, strict=True):
            population[task.chain] = point
            if writer.n_rows == draw_idx:
                writer.record(point, stats)
            log_warnings_of(stats)
            observer.saw(task.chain, draw_idx + 1, point, stats)


def _copy_for_chain(task: ChainTask) -> Any:
    """Copy the step method as PyMC's driver does.

    In one process it copies shallowly, so that chains share what their step methods change in
    place; in several each chain has its own.
    """
    return copy_step_shallowly(task.step) if task.shares_state else copy_step(task.step)


def _share_again(tasks: Sequence[ChainTask], steps: Sequence[Any]) -> None:
    """Join what shallow copies share and restoring has set apart.

    What chains still share is equal in all of them, as it is taken after all have stepped.
    """
    fresh = [flatten(_copy_for_chain(task)) for task in tasks]
    restored = [flatten(step) for step in steps]
    for schema in tasks[0].schemas:
        for field in schema.fields:
            get = attrgetter(field.path)
            before = [get(methods[schema.step_idx]) for methods in fresh]
            now = [get(methods[schema.step_idx]) for methods in restored]
            is_mutable = isinstance(now[0], np.ndarray | list)
            if not is_mutable or any(value is not before[0] for value in before):
                continue
            if all(np.array_equal(np.asarray(value), np.asarray(now[0])) for value in now):
                for methods in restored:
                    set_attribute(methods[schema.step_idx], field.path, now[0])
