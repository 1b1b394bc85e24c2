"""A run that is being sampled: found or made in a store, drawn, and handed over."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from checkpoint import hierarchy, layout
from checkpoint._pymc.datasets import with_groups
from checkpoint._pymc.progress import Progress, announce
from checkpoint._pymc.results import as_draw, package, stats_columns, trace_of
from checkpoint._pymc.setup import Arguments, Preparation, prepare, prepare_again
from checkpoint.adapters import AdapterSchema
from checkpoint.arguments import UNSET, Options
from checkpoint.arrays import TEXT
from checkpoint.chain import ChainTask, run_chain
from checkpoint.errors import (
    DamageWarning,
    RunExistsError,
    RunNotFoundError,
    TooFewDrawsError,
)
from checkpoint.inspection import Run
from checkpoint.interrupts import Interrupts
from checkpoint.manifest import Manifest
from checkpoint.population import run_population
from checkpoint.recording import row_plan, stat_path, variable_path
from checkpoint.recovery import ChainRecord, recover
from checkpoint.run_setup import (
    StoreSettings,
    check_logp,
    check_pickles,
    check_same_model,
    check_same_settings,
    create_run,
    describe_run,
    extend_run,
    read_constants,
    read_start,
    refuse,
    seed_text,
)
from checkpoint.stores import Store
from checkpoint.workers import WorkerSettings, run_in_workers

__all__ = ["ActiveRun", "draw_missing", "find_or_create", "result"]


@dataclass(frozen=True)
class ActiveRun:
    """A run with all that is needed to draw more of it.

    Attributes
    ----------
    store : Store
    manifest : Manifest
    preparation : Preparation
    schemas : tuple of AdapterSchema
    draws : int
        Draws after warm-up that this call is to return.
    """

    store: Store
    manifest: Manifest
    preparation: Preparation
    schemas: tuple[AdapterSchema, ...]
    draws: int

    @property
    def n_rows(self) -> int:
        """Draws of each chain that this call needs, warm-up included."""
        return self.manifest.tune + self.draws

    def records(self) -> list[ChainRecord]:
        """Return what every chain has recorded."""
        chains = range(self.manifest.chains)
        return [recover(self.store, self.manifest, chain) for chain in chains]


def find_or_create(store: Store, options: Options, model: Any) -> ActiveRun:
    """Return the run of this call: the one in the store, checked, or a new one.

    The store is locked if there is something to draw.

    Raises
    ------
    RunExistsError, RunNotFoundError
        If `resume` forbids what would be done.
    DifferentRunError
        If the store holds another run.
    """
    found = hierarchy.read_manifest(store)
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
    if found is None:
        return _create(store, options, _arguments(options, model))
    return _reopen(store, found, options, _arguments(options, model))


def draw_missing(run: ActiveRun, options: Options) -> bool:
    """Draw what the chains lack; return whether that was completed.

    Notes
    -----
    Durability: on return, and when an error is raised, every recorded draw is durable.
    """
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        return True
    _announce(run, records, options)
    spent = hierarchy.read_sampling_time(run.store, run.manifest)
    began = time.monotonic()
    try:
        with Interrupts() as interrupts:
            _drive(run, records, options, interrupts)
    finally:
        seconds = spent + time.monotonic() - began
        hierarchy.write_sampling_time(run.store, run.manifest, seconds)
        run.store.unlock()
    interrupts.pass_on()
    return not interrupts.should_stop()


def result(run: ActiveRun, options: Options) -> Any:
    """Return what `pm.sample` returns, from what is recorded.

    Raises
    ------
    TooFewDrawsError
        If no chain has a draw to return.
    """
    preparation = run.preparation
    stats = stats_columns(preparation.step)
    traces = []
    for record in run.records():
        n_rows = min(record.n_rows, run.n_rows)
        values = {
            name: record.values(variable_path(name), 0, n_rows) for name in run.manifest.variables
        }
        taken = {(i, name): record.values(stat_path(i, name), 0, n_rows) for i, name, _ in stats}
        traces.append(trace_of(preparation, record.chain, values, taken, n_rows))
    try:
        packaged = package(
            preparation,
            traces,
            sampling_time=hierarchy.read_sampling_time(run.store, run.manifest),
            discard_tuned_samples=options.discard_tuned_samples,
            compute_convergence_checks=options.compute_convergence_checks,
            return_inferencedata=options.return_inferencedata,
            keep_warning_stat=options.keep_warning_stat,
            idata_kwargs=options.idata_kwargs,
            quiet=options.quiet,
        )
    except ValueError as error:
        if "Not enough samples to build a trace" not in str(error):
            raise
        raise TooFewDrawsError(
            f"{run.store.name}: sampling was stopped before any chain had a draw after warm-up. "
            "All that was drawn is recorded. Run the same command again to continue."
        ) from None
    if options.include_transformed and options.return_inferencedata:
        return with_groups(packaged, _unconstrained(run, options))
    return packaged


def _unconstrained(run: ActiveRun, options: Options) -> dict[str, Any]:
    """Return the groups that `include_transformed` adds."""
    view = Run(run.store, run.manifest)
    groups = {layout.UNCONSTRAINED: view.unconstrained_posterior.isel(draw=slice(run.draws))}
    if not options.discard_tuned_samples and run.manifest.tune:
        groups[f"{layout.WARMUP}{layout.UNCONSTRAINED}"] = view.warmup_unconstrained_posterior
    return {name: group for name, group in groups.items() if group.data_vars}


def _create(store: Store, options: Options, arguments: Arguments) -> ActiveRun:
    preparation = prepare(arguments)
    settings = StoreSettings(options.zarr_format or 3, options.draws_per_chunk, options.codec)
    manifest, schemas = describe_run(
        arguments, preparation, settings, options.fastmath, options.allow_pickle
    )
    store.lock()
    try:
        if hierarchy.read_manifest(store) is not None:
            raise RunExistsError(
                f"{store.name}: another process began a run here at the same time. "
                "Nothing was changed. Run the same command again to continue that run."
            )
        hierarchy.begin(store, manifest.zarr_format)
        create_run(store, manifest, preparation, schemas)
    except BaseException:
        store.unlock()
        raise
    return ActiveRun(store, manifest, preparation, schemas, options.draws)


def _reopen(store: Store, manifest: Manifest, options: Options, arguments: Arguments) -> ActiveRun:
    check_same_model(store, manifest, arguments.model)
    _check_store_options(store, manifest, options)
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
    check_same_settings(store, manifest, arguments, preparation, options.fastmath)
    check_pickles(store, preparation, schemas, options.allow_pickle)
    run = ActiveRun(store, manifest, preparation, schemas, options.draws)
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        return run
    store.lock()
    try:
        check_logp(store, manifest, preparation, run.records())
        if options.draws > manifest.draws:
            longer = extend_run(store, manifest, preparation, schemas, options.draws)
            run = replace(run, manifest=longer)
    except BaseException:
        store.unlock()
        raise
    return run


def _check_store_options(store: Store, manifest: Manifest, options: Options) -> None:
    """Hold that what cannot change in a store is not asked to."""
    asked: list[tuple[str, object, object]] = []
    if options.chains is not None:
        asked.append(("chains", manifest.chains, options.chains))
    if options.random_seed is not None:
        asked.append(("random_seed", manifest.seed, seed_text(options.random_seed)))
    if options.zarr_format is not None:
        asked.append(("zarr_format", manifest.zarr_format, options.zarr_format))
    if options.draws_per_chunk is not None:
        fits = (
            min(options.draws_per_chunk, max(1, manifest.tune)) == manifest.warmup_chunk
            and manifest.chunk <= options.draws_per_chunk
        )
        if not fits:
            asked.append(("draws_per_chunk", manifest.chunk, options.draws_per_chunk))
    if options.compressor is not UNSET:
        now = options.codec.to_json()
        asked.append(("compressor", manifest.compressor, now))
    found = [
        f"{name}: recorded as {before}, now {now}" for name, before, now in asked if before != now
    ]
    refuse(store, "with other settings", found)


def _arguments(options: Options, model: Any) -> Arguments:
    compile_kwargs = dict(options.compile_kwargs or {})
    compile_kwargs.pop("fastmath", None)
    return Arguments(
        model=model,
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        cores=options.cores,
        random_seed=options.random_seed,
        step=options.step,
        var_names=options.var_names,
        initvals=options.initvals,
        init=options.init,
        jitter_max_retries=options.jitter_max_retries,
        n_init=options.n_init,
        mp_ctx=options.mp_ctx,
        blas_cores=options.blas_cores,
        compile_kwargs=compile_kwargs,
        backend=options.backend,
        step_kwargs=options.step_kwargs,
        progressbar=bool(options.progressbar),
        quiet=options.quiet,
    )


def _tasks(run: ActiveRun, records: list[ChainRecord], commit_interval: float) -> list[ChainTask]:
    preparation = run.preparation
    plan = row_plan(run.manifest, stats_columns(preparation.step))
    recorder: Any = preparation.recorder
    return [
        ChainTask(
            store=run.store,
            manifest=run.manifest,
            schemas=run.schemas,
            plan=plan,
            compute=recorder.fn,
            step=preparation.step,
            chain=record.chain,
            start=preparation.initial_points[record.chain],
            rng=preparation.rngs[record.chain],
            n_rows=run.n_rows,
            commit_interval=commit_interval,
            shares_state=preparation.is_population and run.manifest.sequential,
        )
        for record in records
        if preparation.is_population or record.n_rows < run.n_rows
    ]


def _drive(
    run: ActiveRun, records: list[ChainRecord], options: Options, interrupts: Interrupts
) -> None:
    preparation = run.preparation
    tasks = _tasks(run, records, options.commit_interval)
    in_workers = preparation.cores > 1 and len(tasks) > 1 and not preparation.is_population
    callback = _callback(options.callback, run, tasks)
    progress = Progress(
        preparation.step,
        run.manifest.chains,
        run.draws,
        run.manifest.tune,
        False if options.quiet else options.progressbar,
        options.progressbar_theme,
        [(min(record.n_rows, run.n_rows), _last_stats(run, record)) for record in records],
    )

    def listen(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        progress.move(chain, n_rows, stats)
        if callback is not None:
            callback(chain, n_rows, point, stats)

    with _StopInstead(interrupts):
        if in_workers:
            settings = WorkerSettings(
                preparation.mp_ctx,
                min(preparation.cores, len(tasks)),
                preparation.blas_cores_per_worker,
                options.fastmath,
                step_by_step=callback is not None,
            )
            run_in_workers(tasks, settings, listen, interrupts.should_stop, progress)
            return
        observer = _InProcess(listen, interrupts, every_draw=callback is not None)
        with progress, preparation.blas_limiter():
            if preparation.is_population:
                run_population(tasks, observer)
                return
            for task in tasks:
                run_chain(task, observer)


def _last_stats(run: ActiveRun, record: ChainRecord) -> list[dict[str, Any]]:
    """Return the stats of a chain's last recorded draw, as far as a display shows them."""
    stats: list[dict[str, Any]] = [{} for _ in run.preparation.step.stats_dtypes]
    if record.n_rows:
        for step_idx, name, dtype in stats_columns(run.preparation.step):
            if dtype != TEXT:
                path = stat_path(step_idx, name)
                stats[step_idx][name] = record.value(path, record.n_rows - 1)
    return stats


class _InProcess:
    """The observer of chains in this process."""

    def __init__(
        self, listen: Callable[..., None], interrupts: Interrupts, every_draw: bool
    ) -> None:
        self._listen = listen
        self._every_draw = every_draw
        self._next = 0.0
        self.should_stop = interrupts.should_stop

    def saw(self, chain: int, n_rows: int, point: Any, stats: Any) -> None:
        now = time.monotonic()
        if self._every_draw or now >= self._next:
            self._next = now + 0.1
            self._listen(chain, n_rows, point, stats)


class _StopInstead:
    """Take a KeyboardInterrupt from a callback as a request to stop, as `pm.sample` does."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> bool:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._interrupts.stop()
            return True
        return False


def _callback(
    callback: Callable[..., Any] | None, run: ActiveRun, tasks: list[ChainTask]
) -> Callable[..., None] | None:
    """Return a listener that keeps PyMC's in-memory traces for a user's callback."""
    if callback is None:
        return None
    stats_dtypes = run.preparation.step.stats_dtypes
    traces: dict[int, Any] = {}
    for task in tasks:
        trace = run.preparation.recorder
        traces[task.chain] = trace = _copy(trace)
        trace.setup(run.n_rows, task.chain, stats_dtypes)
    tune = run.manifest.tune

    def call(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        traces[chain].record(point, stats, in_warmup=n_rows <= tune)
        is_last = n_rows == run.n_rows
        draw = as_draw(chain, is_last, n_rows - 1, n_rows <= tune, stats, point)
        callback(trace=traces[chain], draw=draw)

    return call


def _copy(trace: Any) -> Any:
    from copy import copy

    return copy(trace)


def _announce(run: ActiveRun, records: list[ChainRecord], options: Options) -> None:
    for record in records:
        if record.damage is not None:
            warnings.warn(
                f"{run.store.name}: the log entry {record.damage.key} of chain {record.chain} "
                f"cannot be read ({record.damage.reason}). {record.damage.n_lost} draws of that "
                f"chain are lost and drawn again, from draw {record.n_rows} on.",
                DamageWarning,
                stacklevel=4,
            )
    if options.quiet:
        return
    preparation = run.preparation
    recorded = [record.n_rows for record in records]
    if any(recorded):
        n_chains = len(records)
        announce(
            f"{os.path.basename(run.store.name.rstrip('/'))}: continuing {n_chains} "
            f"chain{'s' if n_chains > 1 else ''} at draws {', '.join(map(str, recorded))} "
            f"of {run.n_rows}"
        )
    n = len([count for count in recorded if count < run.n_rows])
    if preparation.is_population:
        kind = f"Population sampling ({len(records)} chains)"
    elif preparation.cores > 1 and n > 1:
        kind = f"Multiprocess sampling ({n} chains in {min(preparation.cores, n)} jobs)"
    else:
        kind = f"Sequential sampling ({n} chains in 1 job)"
    announce(kind, preparation.step)
