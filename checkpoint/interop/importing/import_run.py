"""`import_run` makes a run, which `sample` continues, from draws that others recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.points import free_names
from checkpoint._pymc.progress import quietly
from checkpoint._pymc.setup import Preparation, prepare
from checkpoint._pymc.steps import declares_state, flatten, step_name
from checkpoint.errors import (
    ArgumentError,
    DifferentRunError,
    ExactnessWarning,
    UnsupportedStepError,
    warn_caller,
)
from checkpoint.interop.importing.histories import ChainHistory, blocks_of, n_without_state
from checkpoint.interop.importing.tree_source import TreeSource
from checkpoint.interop.importing.trees import is_tree
from checkpoint.interop.importing.zarr_trace_source import PyMCSource
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.recording.filling import check_empty, fill
from checkpoint.runs.active import arguments_of
from checkpoint.runs.arguments import UNSET, Options, check_options, step_arguments
from checkpoint.runs.describe import StoreSettings, contents_of, describe_run
from checkpoint.runs.same_numbers import LOGP_TOLERANCE
from checkpoint.runs.same_run import seed_text
from checkpoint.stores import Store, as_store

__all__ = ["import_run", "is_result"]

Source = TreeSource | PyMCSource


def import_run(
    source: Any,
    target: Any,
    *,
    model: Any = None,
    step: Any = None,
    random_seed: Any = None,
    cores: int | None = None,
    var_names: Sequence[str] | None = None,
    initvals: Any = None,
    init: str = "auto",
    n_init: int = 200_000,
    jitter_max_retries: int = 10,
    backend: str | None = None,
    compile_kwargs: Mapping[str, Any] | None = None,
    draws_per_chunk: int | None = None,
    compressor: Any = UNSET,
    zarr_format: Literal[2, 3] | None = None,
    allow_pickle: bool = False,
    **kwargs: Any,
) -> None:
    """Make a run, which `checkpoint.sample` continues, from draws that others recorded.

    There are two kinds of sources. A **result of sampling** (an ArviZ InferenceData or an xarray
    DataTree, or a netCDF file or Zarr store of one) keeps no state of the sampler. Its run
    continues as a valid Markov chain from the last draw of each chain, with the last step sizes and
    with the mass matrix that PyMC would have estimated from its warm-up, or from its draws if
    warm-up was discarded. Random numbers are new. A **store of PyMC's ZarrTrace** keeps the last
    state of each chain. If that state is the one after the last recorded draw, and the transformed
    variables were stored, its run continues with the draws that PyMC would have drawn, bit for bit.

    Parameters
    ----------
    source : InferenceData, DataTree, path, URL or store
        What was recorded: the groups posterior and sample_stats, and those of warm-up if they are
        there; or a store of PyMC's.
    target : path, URL or store
        Where the run is to be. It must be empty.
    model : Model, optional
        The model that was sampled; that of the context unless given.
    step, var_names, initvals, init, n_init, jitter_max_retries, backend, compile_kwargs
        As in the call that drew the source. `checkpoint.sample` must later be given the same, and
        refuses others.
    random_seed : int, sequence of int, or Generator, optional
        For the random numbers after the import. A store of PyMC's has its own seed; one that is
        given must equal it.
    cores : int, optional
        As in `pm.sample`. PyMC begins chains in one process in another way than in several; this
        matters only to chains that have no draw yet.
    draws_per_chunk, compressor, zarr_format
        As in `checkpoint.sample`.
    allow_pickle : bool
        Whether pickles in the source may be loaded, which can run code: only for stores you
        trust. Stores of PyMC's need it.
    **kwargs
        For step methods, as in `checkpoint.sample`.

    Raises
    ------
    ArgumentError
        If the source has no draws, or lacks variables or step sizes.
    DifferentRunError
        If it is of another model or of other step methods; it lists each difference.
    RunExistsError, NotARunError
        If the target is not empty.
    UnsupportedStepError
        If pickles would be loaded without `allow_pickle`, or a step method declares no state.
    RunLockedError, StoreWriteError
        As in `checkpoint.sample`.

    Warns
    -----
    ExactnessWarning
        If the run does not continue bit for bit, or that cannot be known. The warning says why, and
        so does `origin` in the manifest of the run.

    Notes
    -----
    The state of the sampler is kept from the last imported row of each chain on, not before it.

    Recorded variables, and the stats that the source has, are equal to the source. Stats that it
    lacks are NaN, 0 or false; the text of PyMC's warnings is empty.

    A source without warm-up makes a run with ``tune=0``: leave `tune` out when it is continued.

    Durability: on return the run is durable. If the call is killed before, there is no run; the
    same call makes it anew.

    Examples
    --------
    >>> import warnings
    >>> import pymc as pm
    >>> from checkpoint import sample
    >>> from checkpoint.errors import ExactnessWarning
    >>> with pm.Model():
    ...     x = pm.Normal("x")
    ...     idata = pm.sample(draws=50, tune=200, chains=2, cores=1, progressbar=False,
    ...                       compute_convergence_checks=False)
    ...     with warnings.catch_warnings(action="ignore", category=ExactnessWarning):
    ...         import_run(idata, tmp / "fit.zarr")
    ...     longer = sample(tmp / "fit.zarr", draws=80, cores=1, quiet=True)
    >>> bool((longer.posterior["x"][:, :50] == idata.posterior["x"]).all())
    True
    """
    _check_names(kwargs)
    options = Options(
        step=step,
        random_seed=random_seed,
        cores=cores,
        var_names=var_names,
        initvals=initvals,
        init=init,
        n_init=n_init,
        jitter_max_retries=jitter_max_retries,
        backend=backend,
        compile_kwargs=compile_kwargs,
        draws_per_chunk=draws_per_chunk,
        compressor=compressor,
        zarr_format=zarr_format,
        allow_pickle=allow_pickle,
        quiet=True,
        step_kwargs=step_arguments(kwargs),
    )
    check_options(options)
    place = as_store(target)
    check_empty(place)
    found = open_source(source, allow_pickle)
    model = _model(model, found)
    _check_same_model(found, model, options.var_names)
    with quietly(True), exact_compilation(bool(options.fastmath)):
        text = _import(found, place, options, model)
    if not (found.is_exact and found.is_certain):
        warn_caller(f"{place.name}: {text}", ExactnessWarning)


def _check_names(given: Mapping[str, Any]) -> None:
    """Check that no argument is given that only sampling takes."""
    for name in sorted(set(given) & set(Options.__dataclass_fields__)):
        raise ArgumentError(
            f"checkpoint.convert does not take {name}: it is in the source, or has no meaning "
            "here. Nothing was changed. Leave it out."
        )


def _model(model: Any, source: Source) -> Any:
    try:
        return pymc_model.current_model(model)
    except TypeError as error:  # as PyMC says that there is none
        raise ArgumentError(
            f"{source.name}: the model that it was drawn from is needed. Nothing was changed. Pass "
            "model=, or --model on the command line."
        ) from error


def is_result(source: Any) -> bool:
    """Return whether a source is a result of sampling as an object, or a file of one."""
    is_file = isinstance(source, str | Path) and Path(source).is_file()
    return is_tree(source) or (is_file and not str(source).endswith(".zip"))


def open_source(source: Any, allow_pickle: bool) -> Source:
    """Return the reader of a source.

    Raises
    ------
    ArgumentError
        If it can be read as neither kind.
    UnsupportedStepError
        If pickles would be loaded without `allow_pickle`.
    """
    if is_result(source):
        return TreeSource(source, allow_pickle)
    store = as_store(source)
    found = PyMCStore.find(store)
    return TreeSource(store, allow_pickle) if found is None else PyMCSource(found, allow_pickle)


def _import(source: Source, store: Store, options: Options, model: Any) -> str:
    """Write the run, and return the text that says how it continues."""
    named_seed, seed = source.seed(options.random_seed)
    options = replace(
        options, draws=source.draws, tune=source.tune, chains=source.chains, random_seed=seed
    )
    arguments = arguments_of(options, model)
    preparation = prepare(arguments)
    for method in flatten(preparation.step):
        if not declares_state(method):
            raise UnsupportedStepError(
                f"The step method {step_name(method)} declares no state, so it cannot continue "
                "from draws alone. Nothing was written. Choose another step method, or begin a new "
                "run with checkpoint.sample."
            )
    histories = source.histories(preparation)
    histories = [_with_last_logp(source, preparation, history) for history in histories]
    how = StoreSettings(options.zarr_format or 3, options.draws_per_chunk, options.codec)
    manifest, schemas = describe_run(
        arguments, preparation, how, bool(options.fastmath), allow_pickle=False, is_imported=True
    )
    text = _text(source)
    manifest = replace(
        manifest, seed=seed_text(named_seed), n_imported=n_without_state(histories), origin=text
    )
    contents = replace(contents_of(preparation, schemas), sampling_time=source.sampling_time)
    chains = (
        blocks_of(store, manifest, schemas, chain, history)
        for chain, history in enumerate(histories)
    )
    fill(store, manifest, contents, chains)
    return text


def _check_same_model(source: Source, model: Any, var_names: Sequence[str] | None) -> None:
    """Check that the source has the variables and the data of the model, and no others."""
    values = free_names(model)  # by value variable
    known = {str(rv.name) for rv in model.unobserved_RVs}
    found = [
        f"variable {name}: not in the model; drop it from the source if it was computed later"
        for name in sorted(source.variables - known - set(values))
    ]
    wanted = {*values.values(), *(known if var_names is None else var_names)}
    missing = sorted(wanted - source.variables)
    found += [f"variable {name}: not in the source" for name in missing]
    found += source.data_differences(model)
    if not found:
        return
    way_out = "Pass the model that it was drawn from"
    if missing and not set(missing) & set(values.values()):
        way_out += ", or var_names without what is not in the source"
    lines = "\n".join(f"  - {line}" for line in found)
    raise DifferentRunError(
        f"{source.name} is not of this model:\n{lines}\nNothing was written. {way_out}. Every "
        "free variable must be there, as the next draw depends on it.",
        found,
    )


def _with_last_logp(
    source: Source, preparation: Preparation, history: ChainHistory
) -> ChainHistory:
    """Return a history with the log-probability of its last point, checked with the model's."""
    if not history.n_rows or not pymc_model.records_logp(preparation):
        return history
    point = {name: history.draws[name][-1] for name in preparation.value_names}
    now = pymc_model.last_logp(preparation, point)
    key = len(flatten(preparation.step)) - 1, "model_logp"
    if key not in history.stats:
        values = np.full(history.n_rows, np.nan)
        values[-1] = now
        return replace(history, stats={**history.stats, key: values})
    recorded = float(history.stats[key][-1])
    if now is None or not np.isclose(now, recorded, rtol=LOGP_TOLERANCE, atol=LOGP_TOLERANCE):
        line = f"logp at the last draw: recorded as {recorded!r}, now {now!r}"
        raise DifferentRunError(
            f"{source.name} is of a model with another log-probability:\n  - {line}\n"
            "Nothing was written. Pass the model, with the data, that it was drawn from.",
            [line],
        )
    return history


def _text(source: Source) -> str:
    """Return where an imported run came from and how it continues, as text for messages."""
    if source.is_exact:
        text = f"Imported from {source.name}; the run continues bit for bit as PyMC would have"
        if not source.is_certain:
            text += (
                ", unless it was interrupted while one process drew all chains (cores=1): PyMC may "
                "then have stored a state from within a draw or after a later one, which cannot "
                "always be detected"
            )
    else:
        text = (
            f"Imported from {source.name}; the run continues as a valid Markov chain from the last "
            "draw of each chain, with the adaptation found there, but not bit for bit"
        )
    if source.notes:
        text += f". Not taken over: {'; '.join(source.notes)}"
    return f"{text}."
