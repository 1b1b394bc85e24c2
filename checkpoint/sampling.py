"""`sample`: create, continue, extend or return a run, as the store says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from checkpoint import hierarchy
from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.progress import quietly
from checkpoint._pymc.results import warn_about_arguments
from checkpoint.arguments import UNSET, Options, check_options, step_arguments
from checkpoint.driving import draw_missing
from checkpoint.errors import ArgumentError
from checkpoint.run import as_recorded, find_or_create, result
from checkpoint.stores import as_store

__all__ = ["sample"]


def sample(
    store: Any,
    draws: int = 1000,
    *,
    tune: int | None = None,
    chains: int | None = None,
    cores: int | None = None,
    random_seed: Any = None,
    progressbar: bool | str = True,
    progressbar_theme: Any = None,
    quiet: bool = False,
    step: Any = None,
    var_names: Sequence[str] | None = None,
    nuts_sampler: str | None = None,
    initvals: Any = None,
    init: str = "auto",
    jitter_max_retries: int = 10,
    n_init: int = 200_000,
    discard_tuned_samples: bool = True,
    compute_convergence_checks: bool = True,
    keep_warning_stat: bool = False,
    return_inferencedata: bool = True,
    idata_kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    mp_ctx: Any = None,
    blas_cores: int | Literal["auto"] | None = "auto",
    model: Any = None,
    backend: str | None = None,
    compile_kwargs: Mapping[str, Any] | None = None,
    resume: Literal["auto", "must", "never"] = "auto",
    commit_interval: float = 1.0,
    draws_per_chunk: int | None = None,
    compressor: Any = UNSET,
    include_transformed: bool = False,
    zarr_format: Literal[2, 3] | None = None,
    allow_pickle: bool = False,
    **kwargs: Any,
) -> Any:
    """Sample a model into a store, or go on where a run in it was stopped.

    The call is `pm.sample` with a store in front: the same arguments and seed give the same
    draws, bit for bit, however often the run is killed and started again.

    Parameters
    ----------
    store : path, URL, or store of zarr, of obstore or of `checkpoint.stores`
        Where the run is kept. A path that ends in ``.zip`` is a zip file, another a directory.
        URLs (``s3://``, ``gs://``, ``az://``) need ``pymc-checkpoint[cloud]``. It is created, or
        the run in it is continued.
    draws : int
        Draws after warm-up, of each chain. A larger number extends a finished run.
    tune : int, optional
        Draws of warm-up. They are recorded too.
    chains, cores : int, optional
        As in `pm.sample`. A run may be continued on another number of cores.
    random_seed : int, sequence of int, or Generator, optional
        Without it a seed is drawn once and kept for every continuation.
    progressbar, progressbar_theme, quiet, step, var_names, initvals, init, jitter_max_retries, \
n_init, discard_tuned_samples, compute_convergence_checks, keep_warning_stat, \
return_inferencedata, idata_kwargs, mp_ctx, blas_cores, model, backend
        As in `pm.sample`.
    nuts_sampler : {"pymc"}, optional
        Only PyMC's own sampler can be resumed.
    callback : callable, optional
        As in `pm.sample`. Chains in processes then wait for it at every draw. After a
        continuation its trace begins at the first new draw.
    compile_kwargs : dict, optional
        As in `pm.sample`. Models are compiled without numba's fastmath, which makes a cold and
        a warm compile cache differ in the last bit; ``{"fastmath": True}`` turns it on, and
        resuming is then exact in law only. A run goes on as it began.
    resume : {"auto", "must", "never"}
        Whether a run in the store may, must or must not be there.
    commit_interval : float
        Seconds between commits: at most so much work is lost, whatever dies. A slower draw is
        committed as soon as it exists. An interval below a second is stretched, up to a second,
        where commits would take more than 1 % of the time; 0 commits every draw.
    draws_per_chunk : int, optional
        Draws in a chunk of the arrays. The default makes the rows of a chunk take 16 MiB.
    compressor : numcodecs or zarr codec, or None, optional
        For the chunks. The default is zstd.
    include_transformed : bool
        Whether the result has the values on the unconstrained space too. They are stored in
        any case.
    zarr_format : {2, 3}, optional
        Of a new store; 3 unless given.
    allow_pickle : bool
        Whether a step method that declares no state may be kept as a pickle. Continuing such a
        run loads that pickle, which can run code: only for stores you trust.
    **kwargs
        For step methods, as in `pm.sample`: ``target_accept=0.9``, ``nuts={...}``,
        ``metropolis={...}``.

    Returns
    -------
    DataTree, InferenceData or MultiTrace
        What `pm.sample` of the installed PyMC returns. After Ctrl-C, the draws so far.

    Raises
    ------
    ArgumentError, UnknownArgumentError
        If an argument cannot be used. Nothing is written.
    DifferentRunError
        If the store holds a run of another model or with other settings; it lists them.
    RunExistsError, RunNotFoundError
        If `resume` says otherwise.
    NotARunError, FormatVersionError, DamagedStoreError
        If the store cannot be read as a run. What it holds is left as it is.
    RunLockedError
        If another process is writing the run.
    UnsupportedStepError, IncompleteStateError
        If a step method's state cannot be kept, or does not determine its next draw.
    ChainError
        If a chain fails, or its worker is killed again and again.
    StoreWriteError
        If the store cannot be written. What was recorded is intact. `StoreUnreachableError`, a
        subclass, if it does not answer.
    TooFewDrawsError
        If it is stopped before there is a draw to return.

    Notes
    -----
    Durability: when a commit returns, its draws survive the death of the process and of the
    machine. Object stores, and stores that are not of this package, take commits behind the
    sampling. On return every draw is in the arrays of the store.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model():
    ...     x = pm.Normal("x")
    ...     idata = sample(tmp / "fit.zarr", draws=50, tune=50, chains=2, cores=1,
    ...                    random_seed=1, quiet=True)
    >>> idata.posterior["x"].shape
    (2, 50)
    """
    step_kwargs = step_arguments(kwargs)
    options = Options(
        draws=draws,
        tune=tune,
        chains=chains,
        cores=cores,
        random_seed=random_seed,
        progressbar=progressbar,
        progressbar_theme=progressbar_theme,
        quiet=quiet,
        step=step,
        var_names=var_names,
        nuts_sampler=nuts_sampler,
        initvals=initvals,
        init=init,
        jitter_max_retries=jitter_max_retries,
        n_init=n_init,
        discard_tuned_samples=discard_tuned_samples,
        compute_convergence_checks=compute_convergence_checks,
        keep_warning_stat=keep_warning_stat,
        return_inferencedata=return_inferencedata,
        idata_kwargs=idata_kwargs,
        callback=callback,
        mp_ctx=mp_ctx,
        blas_cores=blas_cores,
        backend=backend,
        compile_kwargs=compile_kwargs,
        resume=resume,
        commit_interval=commit_interval,
        draws_per_chunk=draws_per_chunk,
        compressor=compressor,
        include_transformed=include_transformed,
        zarr_format=zarr_format,
        allow_pickle=allow_pickle,
        step_kwargs=step_kwargs,
    )
    check_options(options)
    model = pymc_model.current_model(model)
    if not pymc_model.n_free_variables(model):
        raise ArgumentError(
            "Cannot sample from the model, since the model does not contain any free variables."
        )
    warn_about_arguments(discard_tuned_samples, return_inferencedata)
    place = as_store(store)
    found = hierarchy.read_manifest(place)
    options = as_recorded(found, options)
    with quietly(quiet), exact_compilation(bool(options.fastmath)):
        run = find_or_create(place, found, options, model)
        draw_missing(run, options)
        return result(run, options)
