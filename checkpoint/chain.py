"""One chain, from its start or its last recorded draw to its end.

The driver knows no step method and no store: it steps, records, and reads a flag between
draws. A half-done step is never recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from checkpoint._pymc.results import log_warnings_of
from checkpoint._pymc.steps import copy_generator, copy_step, flatten, start_chain
from checkpoint.adapters import Adapter, AdapterSchema, StepAdapter, make_adapter
from checkpoint.errors import ChainError, CheckpointError, DamagedStoreError
from checkpoint.manifest import Manifest
from checkpoint.recording import RowPlan
from checkpoint.recovery import ChainRecord, recover
from checkpoint.rehearsal import Rehearsal, replay_last_draw
from checkpoint.rows import RowSource
from checkpoint.stores import Store
from checkpoint.writer import ChainWriter

__all__ = [
    "ChainTask",
    "Observer",
    "check_has_state",
    "point_at",
    "restore_steps",
    "run_chain",
    "state_at",
    "writer_of",
]

Point = Mapping[str, Any]


class Observer(Protocol):
    """Who is told of a chain's draws, and may stop it."""

    def should_stop(self) -> bool:
        """Return whether to stop before the next draw."""

    def saw(self, chain: int, n_rows: int, point: Point, stats: Any) -> None:
        """Take note of a recorded draw."""


@dataclass(frozen=True)
class ChainTask:
    """All that a process needs to run one chain.

    Attributes
    ----------
    store : Store
    manifest : Manifest
    schemas : tuple of AdapterSchema
    plan : RowPlan
    compute : callable
        From value variables to recorded variables.
    step : step method
        Not started; the chain starts a copy.
    chain : int
    start : dict
        Initial point.
    rng : Generator
        For the start of the chain.
    n_rows : int
        Draws to have at the end, warm-up included.
    commit_interval : float
        Seconds.
    shares_state : bool
        Whether the chains of a population share what their step methods change in place.
    """

    store: Store
    manifest: Manifest
    schemas: tuple[AdapterSchema, ...]
    plan: RowPlan
    compute: Callable[..., Sequence[Any]]
    step: Any
    chain: int
    start: Point
    rng: Any
    n_rows: int
    commit_interval: float
    shares_state: bool = False


def run_chain(task: ChainTask, observer: Observer) -> None:
    """Draw until the chain has as many draws as it should, or the observer says stop.

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
        _run(task, observer)
    finally:
        # Pickled step methods may draw from numpy's global generator, which is the caller's.
        np.random.set_state(global_state)


def _run(task: ChainTask, observer: Observer) -> None:
    record = recover(task.store, task.manifest, task.chain)
    step, adapters, point = begin(task, record)
    writer = writer_of(task, record, adapters, step)
    rehearsal = Rehearsal(task) if record.n_rows == 0 else None
    try:
        _draw(task, step, point, writer, rehearsal, observer)
    except CheckpointError:
        raise
    except Exception as error:
        writer.commit()
        raise ChainError(
            f"{task.store.name}: chain {task.chain} failed at draw {writer.n_rows} of "
            f"{task.manifest.total}: {type(error).__name__}: {error}. The {writer.n_rows} draws "
            "before it are recorded. Mend the cause, then run the same command again.",
            task.chain,
        ) from error
    except BaseException:
        # Asked to stop from inside a step or a callback: what is recorded is whole.
        writer.commit()
        raise
    writer.commit()
    if writer.n_rows == task.manifest.total:
        writer.seal()


def _draw(
    task: ChainTask,
    step: Any,
    point: Point,
    writer: ChainWriter,
    rehearsal: Rehearsal | None,
    observer: Observer,
) -> None:
    tune = task.manifest.tune
    for draw_idx in range(writer.n_rows, task.n_rows):
        if observer.should_stop():
            return
        if draw_idx == tune:
            step.stop_tuning()
        if rehearsal is not None:
            rehearsal.before(draw_idx, writer)
        point, stats = step.step(point)
        writer.record(point, stats)
        if rehearsal is not None and rehearsal.after(draw_idx, writer):
            rehearsal = None
        log_warnings_of(stats)
        observer.saw(task.chain, draw_idx + 1, point, stats)


def writer_of(
    task: ChainTask, record: ChainRecord, adapters: Sequence[Adapter], step: Any
) -> ChainWriter:
    """Return what keeps the draws of a chain from its last recorded one on."""
    return ChainWriter(
        task.store,
        task.manifest,
        record,
        task.plan,
        task.compute,
        adapters,
        flatten(step),
        task.commit_interval,
    )


def begin(task: ChainTask, record: ChainRecord) -> tuple[Any, list[Adapter], Point]:
    """Return step method, adapters and point, ready for the chain's next draw."""
    step = copy_step(task.step)
    manifest = task.manifest
    start_chain(step, copy_generator(task.rng), manifest.tune, manifest.draws, manifest.sequential)
    adapters = [make_adapter(schema) for schema in task.schemas]
    if record.n_rows == 0:
        methods = zip(adapters, flatten(step), strict=True)
        started = [adapter.start(method, copy_generator(task.rng)) for adapter, method in methods]
        return _with_methods(step, started), adapters, dict(task.start)
    check_has_state(manifest, record, record.n_rows - 1)
    replay_last_draw(task, record)
    step = restore_steps(step, adapters, record, record.n_rows - 1)
    return step, adapters, point_at(manifest, record, record.n_rows - 1)


def check_has_state(manifest: Manifest, record: ChainRecord, draw_idx: int) -> None:
    """Hold that a chain can be continued from a recorded draw.

    Raises
    ------
    DamagedStoreError
        If the draw was imported without the state after it: the last imported draw is lost.
    """
    first = manifest.first_state(record.chain)
    if draw_idx < first:
        raise DamagedStoreError(
            f"{record.store.name}: chain {record.chain} was imported up to draw {first}, and has "
            f"only {record.n_rows} draws left; the state of the sampler came with the last one. "
            "Nothing was changed. Restore the store from a copy, or import again into another "
            "path."
        )


def restore_steps(step: Any, adapters: Sequence[Adapter], rows: RowSource, draw_idx: int) -> Any:
    """Set a started step method to its state after a recorded draw; return it."""
    methods = zip(adapters, flatten(step), strict=True)
    return _with_methods(step, [a.restore(method, rows, draw_idx) for a, method in methods])


def state_at(task: ChainTask, rows: RowSource, draw_idx: int) -> Any:
    """Return the state after a recorded draw as PyMC keeps it: `step.sampling_state`."""
    step = copy_step(task.step)
    for schema, method in zip(task.schemas, flatten(step), strict=True):
        StepAdapter(schema).restore_whole(method, rows, draw_idx)
    return step.sampling_state


def _with_methods(step: Any, methods: list[Any]) -> Any:
    """Return a step method whose parts are `methods`."""
    if all(one is other for one, other in zip(methods, flatten(step), strict=True)):
        return step
    if len(methods) == 1:
        return methods[0]
    step.methods = methods  # a nested compound steps in the same order when it is flat
    return step


def point_at(manifest: Manifest, rows: RowSource, draw_idx: int) -> dict[str, Any]:
    """Return the point after a recorded draw, by value variable."""
    return {name: rows.value(path, draw_idx).copy() for name, path in manifest.point_paths.items()}
