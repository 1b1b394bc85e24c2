"""Chains that step together, as DEMetropolis needs: each proposal looks at the other chains.

All chains step in this process, in turn, as PyMC's driver does; the draws do not depend on how
many processes are used. Chains may have been killed at different draws: they begin again at the
first draw that one of them lacks, and draws that a chain has already are not recorded twice.
"""

from collections.abc import Mapping, Sequence

from checkpoint.adapters.sampler import Point, Sampler
from checkpoint.chains.chain import writer_of
from checkpoint.chains.driver import Observer
from checkpoint.chains.rehearsal import judge
from checkpoint.chains.restoring import RowsThen, check_has_state, make_row, point_at, step_once
from checkpoint.chains.task import ChainTask
from checkpoint.errors import ChainError, CheckpointError
from checkpoint.format.rows import RowSource, Values
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover
from checkpoint.recording.rehearsed import write_passed
from checkpoint.recording.writer import ChainWriter

__all__ = ["rehearse_population", "repeat_together", "run_population"]


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
    rehearse_population(tasks, records)
    samplers, population = _at_draw(tasks, records, first)
    writers = [
        writer_of(task, record, sampler)
        for task, record, sampler in zip(tasks, records, samplers, strict=True)
    ]
    try:
        _draw(tasks, samplers, writers, population, first, observer)
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
            "Fix the cause, then run the same command again."
        ) from error
    for writer in writers:
        writer.commit()
        if writer.n_rows == manifest.total:
            writer.seal()


def rehearse_population(
    tasks: Sequence[ChainTask], records: Sequence[ChainRecord], keep: bool = True
) -> None:
    """Rehearse recorded draws of a population for which no passed rehearsal is recorded.

    As `rehearse_recorded` does for one chain.

    Raises
    ------
    IncompleteStateError
        If a repeated draw of any chain differs.
    """
    n_rows = min(record.n_rows for record in records)
    for draw_idx in _due(tasks, n_rows + 1):
        first = max([draw_idx - 1, *(1 + n for n in tasks[0].manifest.n_imported if n)])
        if n_rows < max(draw_idx, first):
            continue
        samplers, population = _at_draw(tasks, records, first)
        rows = _make_rows(tasks, samplers, population, first)
        made = [row.slices(0, 1) for row in _make_rows(tasks, samplers, population, first + 1)]
        sources = [
            RowsThen(record if first else None, row)
            for record, row in zip(records, rows, strict=True)
        ]
        _judge(tasks, sources, made, first + 1, keep)
        if keep:
            _passed(tasks, draw_idx)


def _due(tasks: Sequence[ChainTask], n_rows: int) -> list[int]:
    tune, n_rows = tasks[0].manifest.tune, min(n_rows, tasks[0].n_rows)
    return sorted({draw_idx for task in tasks for draw_idx in task.rehearsed.due(tune, n_rows)})


def _make_rows(
    tasks: Sequence[ChainTask],
    samplers: Sequence[Sampler],
    population: list[Point],
    draw_idx: int,
) -> list[RowBuffer]:
    """Make a draw of all chains; the population moves on when all have stepped."""
    made = [
        make_row(task, sampler, point, draw_idx)
        for task, sampler, point in zip(tasks, samplers, list(population), strict=True)
    ]
    population[:] = [point for point, _ in made]
    return [row for _, row in made]


def _judge(
    tasks: Sequence[ChainTask],
    sources: Sequence[RowSource],
    made: Sequence[Mapping[str, Values]],
    draw_idx: int,
    keep: bool = True,
) -> None:
    """Check that a draw of all chains is the same when repeated from the rows before it."""
    for chain, (task, row) in enumerate(zip(tasks, made, strict=True)):

        def again(chain: int = chain) -> dict[str, Values]:
            return repeat_together(tasks, sources, draw_idx)[chain]

        judge(task, draw_idx, row, again, keep)


def _passed(tasks: Sequence[ChainTask], draw_idx: int) -> None:
    for task in tasks:
        write_passed(task.store, task.manifest, task.chain, draw_idx)


def repeat_together(
    tasks: Sequence[ChainTask], records: Sequence[RowSource], draw_idx: int
) -> list[dict[str, Values]]:
    """Make a draw of all chains, restored from the rows before it; return its row of each chain."""
    samplers, population = _at_draw(tasks, records, draw_idx)
    return [
        step_once(task, sampler, point, draw_idx)
        for task, sampler, point in zip(tasks, samplers, list(population), strict=True)
    ]


def _at_draw(
    tasks: Sequence[ChainTask], records: Sequence[RowSource], draw_idx: int
) -> tuple[list[Sampler], list[Point]]:
    """Return samplers and points of all chains, ready for a draw."""
    manifest, method = tasks[0].manifest, tasks[0].method
    population: list[Point] = [dict(task.start) for task in tasks]
    if draw_idx:
        for record in records:
            if isinstance(record, ChainRecord):
                check_has_state(manifest, record, draw_idx - 1)
        population = [point_at(manifest, record, draw_idx - 1) for record in records]
    samplers = method.samplers([task.rng for task in tasks], records, draw_idx)
    method.link(samplers, population)
    return samplers, population


def _draw(
    tasks: Sequence[ChainTask],
    samplers: Sequence[Sampler],
    writers: Sequence[ChainWriter],
    population: list[Point],
    first: int,
    observer: Observer,
) -> None:
    tune = tasks[0].manifest.tune
    due = [draw_idx for draw_idx in _due(tasks, tasks[0].n_rows) if first < draw_idx]
    records: list[ChainRecord] = []
    for draw_idx in range(first, tasks[0].n_rows):
        if observer.should_stop():
            return
        if draw_idx in due:
            records = _committed(tasks, writers)
        updates = []
        for sampler, point in zip(samplers, list(population), strict=True):
            if draw_idx == tune:
                sampler.stop_tuning()
            updates.append(sampler.step(point))
        for task, writer, sampler, update in zip(tasks, writers, samplers, updates, strict=True):
            population[task.chain], stats = update
            if writer.n_rows == draw_idx:
                writer.record(*update)
            sampler.warn(stats)
            observer.saw(task.chain, draw_idx + 1, *update)
        if draw_idx in due:
            at = (draw_idx, draw_idx + 1)
            made = [record.rows(*at) for record in _committed(tasks, writers)]
            _judge(tasks, records, made, draw_idx)
            _passed(tasks, draw_idx)


def _committed(tasks: Sequence[ChainTask], writers: Sequence[ChainWriter]) -> list[ChainRecord]:
    """Commit all chains, and return their records."""
    for writer in writers:
        writer.commit()
    return [recover(task.store, task.manifest, task.chain) for task in tasks]
