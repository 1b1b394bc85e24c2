"""A run that is being sampled: found in a store or made there, and handed over at the end."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from checkpoint import hierarchy, layout
from checkpoint._pymc.datasets import with_groups
from checkpoint._pymc.results import package, stats_columns, trace_of
from checkpoint._pymc.setup import Arguments, Preparation, prepare, prepare_again
from checkpoint.adapters import AdapterSchema
from checkpoint.arguments import UNSET, Options
from checkpoint.checks import (
    check_logp,
    check_pickles,
    check_same_model,
    check_same_settings,
    refuse,
    seed_text,
)
from checkpoint.errors import (
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    StoreWriteError,
    TooFewDrawsError,
)
from checkpoint.inspection import Run
from checkpoint.manifest import Manifest
from checkpoint.recording import RowPlan, row_plan, stat_path, variable_path
from checkpoint.recovery import ChainRecord, recover_all
from checkpoint.run_setup import (
    StoreSettings,
    create_run,
    describe_run,
    extend_run,
    read_constants,
    read_start,
)
from checkpoint.stores import Store

__all__ = [
    "ActiveRun",
    "arguments_of",
    "as_before",
    "as_recorded",
    "begin",
    "find_or_create",
    "result",
    "take",
]


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

    @cached_property
    def plan(self) -> RowPlan:
        """What a row of this run is made of."""
        return row_plan(self.manifest, stats_columns(self.preparation.step))

    def records(self) -> list[ChainRecord]:
        """Return what every chain has recorded."""
        return recover_all(self.store, self.manifest)


def as_recorded(found: Manifest | None, options: Options) -> Options:
    """Return the options with what a run that was found decides where the call does not say."""
    if found is None or options.fastmath is not None or not found.fastmath:
        return options
    return replace(options, compile_kwargs={**(options.compile_kwargs or {}), "fastmath": True})


def find_or_create(store: Store, found: Manifest | None, options: Options, model: Any) -> ActiveRun:
    """Return the run of this call: the one that was found in the store, checked, or a new one.

    The store is locked if there is something to draw.

    Raises
    ------
    RunExistsError, RunNotFoundError
        If `resume` forbids what would be done.
    DifferentRunError
        If the store holds another run.
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
    if found is None:
        return _create(store, options, arguments_of(options, model))
    return _reopen(store, found, options, arguments_of(options, model))


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
        arguments, preparation, settings, bool(options.fastmath), options.allow_pickle
    )
    return begin(store, manifest, preparation, schemas, options.draws)


def begin(
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
        if hierarchy.read_manifest(store) is not None:
            raise RunExistsError(
                f"{store.name}: another process began a run here at the same time. "
                "Nothing was changed. Run the same command again to continue that run."
            )
        store = store.writer()
        hierarchy.begin(store, manifest.zarr_format)
        manifest = create_run(store, manifest, preparation, schemas)
    except BaseException:
        store.unlock()
        raise
    return ActiveRun(store, manifest, preparation, schemas, draws)


def as_before(
    store: Store, manifest: Manifest, options: Options, arguments: Arguments
) -> ActiveRun:
    """Return the run in a store, set up as it began and held against the call.

    Nothing is locked, and nothing written.

    Raises
    ------
    DifferentRunError
        If the store holds another run.
    """
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
    check_same_settings(store, manifest, arguments, preparation, bool(options.fastmath))
    check_pickles(store, preparation, schemas, options.allow_pickle)
    return ActiveRun(store, manifest, preparation, schemas, options.draws)


def _reopen(store: Store, manifest: Manifest, options: Options, arguments: Arguments) -> ActiveRun:
    run = as_before(store, manifest, options, arguments)
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        return run
    take(store)
    try:
        run = replace(run, store=store.writer())
        if hierarchy.read_manifest(run.store) != manifest:
            raise RunLockedError(
                f"{store.name} was extended by another process while it was opened. "
                "Nothing was changed. Run the same command again."
            )
        check_logp(store, manifest, run.preparation, run.records())
        if options.draws > manifest.draws:
            longer = extend_run(run.store, manifest, run.preparation, run.schemas, options.draws)
            run = replace(run, manifest=longer)
    except BaseException:
        run.store.unlock()
        raise
    return run


def take(store: Store) -> None:
    """Lock a store for writing.

    Raises
    ------
    StoreWriteError
        If it was opened read-only.
    RunLockedError
        If another process has it.
    """
    if store.read_only:
        raise StoreWriteError(
            f"{store.name} was opened read-only, and there is something to draw. "
            "Open it for writing."
        )
    store.lock()


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


def arguments_of(options: Options, model: Any) -> Arguments:
    """Return what the setup of PyMC depends on."""
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
