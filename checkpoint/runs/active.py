"""A run that is being sampled: found in a store or made there, and handed over at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Arguments, Preparation, prepare, prepare_again
from checkpoint._pymc.steps import flatten
from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.step_method import StepMethod
from checkpoint.chains.task import ChainTask, RunTask
from checkpoint.errors import (
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    StoreWriteError,
)
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root, write_root
from checkpoint.hierarchy.saved_model import SavedModel
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recorder import RowPlan, row_plan
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.rehearsed import NOTHING, Rehearsed, read_rehearsed
from checkpoint.recording.session_clock import SessionClock
from checkpoint.recording.start import read_constants, read_start
from checkpoint.runs.arguments import Options
from checkpoint.runs.describe import StoreSettings, create_run, describe_run, resize_run
from checkpoint.runs.failed_run import refuse_failed
from checkpoint.runs.longer_warmup import cannot_be_known, cannot_be_longer, with_tune
from checkpoint.runs.randomness import check_not_random
from checkpoint.runs.same_model import check_same_model, refuse
from checkpoint.runs.same_numbers import check_numbers
from checkpoint.runs.same_run import (
    check_pickles,
    check_same_settings,
    check_store_options,
)
from checkpoint.runs.saving import pickled
from checkpoint.stores import Store

__all__ = [
    "ActiveRun",
    "arguments_of",
    "as_before",
    "as_recorded",
    "find_or_create",
    "run_task",
    "start_run",
    "take",
    "task_of",
    "tasks_of",
]


@dataclass(frozen=True)
class ActiveRun:
    """A run, with what is needed to draw more of it.

    Attributes
    ----------
    store : Store
    manifest : Manifest
    preparation : Preparation
    schemas : tuple of AdapterSchema
    draws : int
        Draws after warm-up that this call is to return.
    is_new : bool
        Whether this call created the run.
    is_known : bool
        Whether the model's structure alone shows that it is the model of the run.
    saved : SavedModel or None
        The pickled model, if it is to be kept in the store.
    """

    store: Store
    manifest: Manifest
    preparation: Preparation
    schemas: tuple[AdapterSchema, ...]
    draws: int
    is_new: bool = False
    is_known: bool = True
    saved: SavedModel | None = None

    @property
    def n_rows(self) -> int:
        """Draws of each chain that this call needs, warm-up included."""
        return self.manifest.tune + self.draws

    @cached_property
    def plan(self) -> RowPlan:
        """The columns of a row of this run."""
        return row_plan(self.manifest, stats_columns(self.preparation.step))

    def records(self) -> list[ChainRecord]:
        """Return the record of every chain."""
        return recover_all(self.store, self.manifest)


def as_recorded(found: Manifest | None, options: Options) -> Options:
    """Fill options that the call left open from the recorded run."""
    if found is None or options.fastmath is not None or not found.fastmath:
        return options
    return replace(options, compile_kwargs={**(options.compile_kwargs or {}), "fastmath": True})


def find_or_create(store: Store, found: Manifest | None, options: Options, model: Any) -> ActiveRun:
    """Return the run to sample: the one in the store, after checks, or a new one.

    The store is locked if there is something to draw.

    Raises
    ------
    RunExistsError, RunNotFoundError
        If `resume` forbids to continue the run, or to create one.
    DifferentRunError
        If the store holds another run.
    IncompleteStateError
        If the run in the store is marked as failed.
    """
    if found is not None and options.resume == "never":
        raise RunExistsError(
            f'{store.name} holds a run, and resume="never" was given. Nothing was changed. '
            'Choose another path, or pass resume="auto" to continue it.'
        )
    if found is None and options.resume == "must":
        raise RunNotFoundError(
            f'{store.name} holds no run to continue, and resume="must" was given. '
            'Check the path, or pass resume="auto" to begin one.'
        )
    saved = pickled(model, options) if options.save_model else None
    arguments = arguments_of(options, model)
    if found is None:
        run = _create(store, options, arguments)
    else:
        run = _reopen(store, found, options, arguments)
    return replace(run, saved=saved)


def _create(store: Store, options: Options, arguments: Arguments) -> ActiveRun:
    preparation = prepare(arguments)
    settings = StoreSettings(options.zarr_format or 3, options.draws_per_chunk, options.codec)
    manifest, schemas = describe_run(
        arguments, preparation, settings, bool(options.fastmath), options.allow_pickle
    )
    return start_run(store, manifest, preparation, schemas, options.draws)


def start_run(
    store: Store,
    manifest: Manifest,
    preparation: Preparation,
    schemas: tuple[AdapterSchema, ...],
    draws: int,
) -> ActiveRun:
    """Write a new run, without draws, and hold its lock.

    Raises
    ------
    RunExistsError
        If there is one by now.
    """
    take(store)
    try:
        if read_root.read_manifest(store) is not None:
            raise RunExistsError(
                f"{store.name}: another process began a run here at the same time. "
                "Nothing was changed. Run the same command again to continue that run."
            )
        store = store.writer()
        write_root.write_placeholder(store, manifest.zarr_format)
        manifest = create_run(store, manifest, preparation, schemas)
    except BaseException:
        store.unlock()
        raise
    return ActiveRun(store, manifest, preparation, schemas, draws, is_new=True)


def as_before(
    store: Store, manifest: Manifest, options: Options, arguments: Arguments
) -> ActiveRun:
    """Set up the run in a store as when it was created, and check the call against it.

    Nothing is locked, and nothing written.

    Raises
    ------
    DifferentRunError
        If the store holds another run.
    RandomModelError
        If the model draws random numbers of its own.
    """
    is_known = check_same_model(store, manifest, arguments.model)
    check_store_options(store, manifest, options)
    schemas = read_constants(store, manifest)
    points, rngs = read_start(store, manifest)
    if options.tune is None:
        arguments = replace(arguments, tune=manifest.tune)
    potential = {
        path.removeprefix("potential."): value
        for path, value in schemas[0].constants.items()
        if path.startswith("potential.") and path.count(".") == 1
    }
    preparation = prepare_again(arguments, points, rngs, potential)
    check_not_random(arguments, preparation)
    check_same_settings(store, manifest, arguments, preparation, bool(options.fastmath))
    check_pickles(store, preparation, schemas, options.allow_pickle)
    return ActiveRun(store, manifest, preparation, schemas, options.draws, is_known=is_known)


def _reopen(store: Store, found: Manifest, options: Options, arguments: Arguments) -> ActiveRun:
    manifest = _as_asked(store, found, options)
    run = as_before(store, manifest, options, arguments)
    if manifest is not found and (why := cannot_be_known(flatten(run.preparation.step))):
        refuse(store, "with other settings", [_other_tune(found, options, why)])
    # Before its numbers are looked at: what made it fail may have changed them.
    refuse_failed(store, manifest)
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        if not run.is_known:
            check_numbers(store, manifest, run.preparation, records)
        return run
    take(store)
    try:
        run = replace(run, store=store.writer())
        if read_root.read_manifest(run.store) != found:
            raise RunLockedError(
                f"{store.name} was extended by another process while it was opened. "
                "Nothing was changed. Run the same command again."
            )
        check_numbers(store, manifest, run.preparation, run.records())
        if options.draws > manifest.draws or manifest is not found:
            draws = max(options.draws, manifest.draws)
            longer = resize_run(run.store, manifest, run.preparation, run.schemas, draws)
            run = replace(run, manifest=longer)
    except BaseException:
        run.store.unlock()
        raise
    return run


def _as_asked(store: Store, manifest: Manifest, options: Options) -> Manifest:
    """Return the manifest with the warm-up that a call asks for; nothing is written.

    Raises
    ------
    DifferentRunError
        If it cannot have another length by now.
    """
    if options.tune is None or options.tune == manifest.tune:
        return manifest
    if why := cannot_be_longer(manifest, recover_all(store, manifest), options.tune):
        refuse(store, "with other settings", [_other_tune(manifest, options, why)])
    return with_tune(manifest, options.tune, options.draws_per_chunk)


def _other_tune(manifest: Manifest, options: Options, why: str) -> str:
    return f"tune: recorded as {manifest.tune}, now {options.tune}; {why}"


def take(store: Store) -> None:
    """Lock a store for writing.

    Raises
    ------
    StoreWriteError
        If the store was opened read-only.
    RunLockedError
        If another process holds the lock.
    """
    if store.read_only:
        raise StoreWriteError(
            f"{store.name} was opened read-only, and there is something to draw. "
            "Open it for writing."
        )
    store.lock()


def arguments_of(options: Options, model: Any) -> Arguments:
    """Return the arguments that the setup of PyMC depends on."""
    compile_kwargs = dict(options.compile_kwargs or {})
    compile_kwargs.pop("fastmath", None)
    shared = {field.name: getattr(options, field.name) for field in fields(Arguments)
              if field.name != "model"}  # fmt: skip
    shared |= {"compile_kwargs": compile_kwargs, "progressbar": bool(options.progressbar)}
    return Arguments(model, **shared)


def tasks_of(
    run: ActiveRun,
    records: Sequence[ChainRecord],
    n_rows: int,
    commit_interval: float,
    clock: SessionClock,
) -> list[ChainTask]:
    """Return a task for each chain that lacks draws; in a population, for every chain.

    `n_rows` draws, warm-up included, are what each chain is to have.
    """
    is_population = run.preparation.is_population
    common = run_task(run, commit_interval, clock)
    rehearsed = read_rehearsed(run.store, run.manifest)
    return [
        _chain_task(run, common, record.chain, n_rows, rehearsed[record.chain])
        for record in records
        if is_population or record.n_rows < n_rows
    ]


def task_of(
    run: ActiveRun, chain: int, commit_interval: float, rehearsed: Rehearsed = NOTHING
) -> ChainTask:
    """Return the task of one chain, which a worker process can draw from."""
    common = run_task(run, commit_interval, SessionClock())
    return _chain_task(run, common, chain, run.n_rows, rehearsed)


def run_task(run: ActiveRun, commit_interval: float, clock: SessionClock) -> RunTask:
    """Return the part of a task that all chains share."""
    preparation = run.preparation
    recorder: Any = preparation.recorder
    return RunTask(
        store=run.store,
        manifest=run.manifest,
        method=StepMethod.of(
            preparation.step, run.schemas, run.manifest, preparation.is_population
        ),
        plan=run.plan,
        compute=recorder.fn,
        commit_interval=commit_interval,
        clock=clock,
    )


def _chain_task(
    run: ActiveRun, common: RunTask, chain: int, n_rows: int, rehearsed: Rehearsed
) -> ChainTask:
    preparation = run.preparation
    start, rng = preparation.initial_points[chain], preparation.rngs[chain]
    return ChainTask(common, chain, start, rng, n_rows, rehearsed)
