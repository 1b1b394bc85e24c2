"""`sample`: create, continue, extend or return a run, as the store says."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.kept_draws import warn_of_kept_draws
from checkpoint._pymc.progress import quietly
from checkpoint._pymc.results import MultiTrace, warn_about_arguments
from checkpoint.chains.parents import check_has_guard
from checkpoint.chains.signals import PREEMPT_SIGNALS
from checkpoint.errors import ArgumentError
from checkpoint.hierarchy import read_root
from checkpoint.runs.active import as_recorded, find_or_create
from checkpoint.runs.arguments import UNSET, Options, check_options
from checkpoint.runs.check_until import check_until
from checkpoint.runs.deadlines import Deadline
from checkpoint.runs.driving import draw_missing
from checkpoint.runs.finished import result_of_finished
from checkpoint.runs.result import result
from checkpoint.runs.rounds import as_decided
from checkpoint.stores import as_store

if TYPE_CHECKING:
    from xarray import DataTree

__all__ = ["sample"]


# The overloads repeat the arguments of `sample` below, so they are set in few lines.
# fmt: off
@overload
def sample(
    store: Any, draws: int = 1000, *, tune: int | None = None, chains: int | None = None,
    cores: int | None = None, random_seed: Any = None, progressbar: bool | str = True,
    progressbar_theme: Any = None, quiet: bool = False, step: Any = None,
    var_names: Sequence[str] | None = None, nuts_sampler: str | None = None, initvals: Any = None,
    init: str = "auto", jitter_max_retries: int = 10, n_init: int = 200_000,
    discard_tuned_samples: bool = True, compute_convergence_checks: bool = True,
    keep_warning_stat: bool = False, return_inferencedata: Literal[False],
    idata_kwargs: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None,
    mp_ctx: Any = None, blas_cores: int | Literal["auto"] | None = "auto", model: Any = None,
    backend: str | None = None, compile_kwargs: Mapping[str, Any] | None = None,
    resume: Literal["auto", "must", "never"] = "auto", commit_interval: float = 1.0,
    draws_per_chunk: int | None = None, compressor: Any = UNSET, include_transformed: bool = False,
    zarr_format: Literal[2, 3] | None = None, allow_pickle: bool = False,
    preempt_signals: Sequence[int | str] = PREEMPT_SIGNALS, preempt_exit_code: int | None = None,
    grace: float = 20.0, max_time: Any = None, deadline: Any = None,
    on_deadline: Literal["return", "exit"] = "return", count_earlier_time: bool = False,
    save_model: bool = False, until: Callable[..., Any] | None = None, **kwargs: Any,
) -> MultiTrace: ...


@overload
def sample(
    store: Any, draws: int = 1000, *, tune: int | None = None, chains: int | None = None,
    cores: int | None = None, random_seed: Any = None, progressbar: bool | str = True,
    progressbar_theme: Any = None, quiet: bool = False, step: Any = None,
    var_names: Sequence[str] | None = None, nuts_sampler: str | None = None, initvals: Any = None,
    init: str = "auto", jitter_max_retries: int = 10, n_init: int = 200_000,
    discard_tuned_samples: bool = True, compute_convergence_checks: bool = True,
    keep_warning_stat: bool = False, return_inferencedata: bool = True,
    idata_kwargs: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None,
    mp_ctx: Any = None, blas_cores: int | Literal["auto"] | None = "auto", model: Any = None,
    backend: str | None = None, compile_kwargs: Mapping[str, Any] | None = None,
    resume: Literal["auto", "must", "never"] = "auto", commit_interval: float = 1.0,
    draws_per_chunk: int | None = None, compressor: Any = UNSET, include_transformed: bool = False,
    zarr_format: Literal[2, 3] | None = None, allow_pickle: bool = False,
    preempt_signals: Sequence[int | str] = PREEMPT_SIGNALS, preempt_exit_code: int | None = None,
    grace: float = 20.0, max_time: Any = None, deadline: Any = None,
    on_deadline: Literal["return", "exit"] = "return", count_earlier_time: bool = False,
    save_model: bool = False, until: Callable[..., Any] | None = None, **kwargs: Any,
) -> "DataTree | Any": ...


# fmt: on


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
    preempt_signals: Sequence[int | str] = PREEMPT_SIGNALS,
    preempt_exit_code: int | None = None,
    grace: float = 20.0,
    max_time: Any = None,
    deadline: Any = None,
    on_deadline: Literal["return", "exit"] = "return",
    count_earlier_time: bool = False,
    save_model: bool = False,
    until: Callable[..., Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Sample a model into a store, or continue the run that it holds.

    The call is that of `pm.sample`, with the store as first argument: the same arguments and
    seed give the same draws, bit for bit, however often the run is killed and started again.

    Parameters
    ----------
    store : path, URL, or store of zarr, of obstore or of `checkpoint.stores`
        Where the run is kept. A path that ends in ``.zip`` is a zip file, another a directory.
        URLs (``s3://``, ``gs://``, ``az://``) need ``pymc-checkpoint[cloud]``. It is created, or
        the run in it is continued.
    draws : int
        Draws after warm-up, of each chain. A larger number extends a finished run.
    tune : int, optional
        Draws of warm-up. They are recorded too. A larger number lengthens it, while no chain has
        finished it.
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
        a resumed run is then equal in distribution only. A run keeps the setting it began with.
    resume : {"auto", "must", "never"}
        Whether the store may ("auto"), must, or must never hold a run already.
    commit_interval : float
        Seconds between commits, and so the most work that a crash can lose. A draw that takes
        longer is committed as soon as it exists. An interval below a second is
        stretched, up to a second, where commits would take more than 1 % of the time; 0 commits
        every draw.
    draws_per_chunk : int, optional
        Draws in a chunk of the arrays. The default makes the rows of a chunk take 16 MiB.
    compressor : numcodecs or zarr codec, or None, optional
        Compressor of the chunks. The default is zstd.
    include_transformed : bool
        Whether the result has the values on the unconstrained space too. They are stored in
        any case.
    zarr_format : {2, 3}, optional
        Zarr format of a new store. The default is 3.
    allow_pickle : bool
        Whether a step method that declares no state may be kept as a pickle. Continuing such a
        run loads that pickle, which can run code: only for stores you trust.
    preempt_signals : sequence of int or str
        Signals that announce the end of the process. Each chain then stops between draws and
        commits, and `Preempted` ends the process. By default SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and
        SIGXCPU; an empty sequence leaves all as they are. They are taken in the main thread only,
        and not where the process ignores them, as under ``nohup``. One that a worker receives
        alone, as SIGXCPU is when its own time is up, counts as one to this process.
    preempt_exit_code : int, optional
        Exit code of the process after such a signal. The default is 128 plus the signal's number.
    grace : float
        Seconds after the signal at which the process ends even in the middle of a draw. Draws
        that were committed are kept.
    max_time : float, timedelta, or str, optional
        Time that the call may take: seconds, or text such as ``"2h30m"``. Sampling stops early by
        what a draw and a commit take, as measured, and a second.
    deadline : "slurm", datetime, str, or callable, optional
        Moment at which the call must have ended: the end of the Slurm job; a time of day such as
        ``"06:30"``, which comes next; a date and time, local unless it has a zone; or a function
        that returns the seconds left, or None while nothing is known. It is called once a second,
        in a thread. Of `max_time` and `deadline` the earlier counts.
    on_deadline : {"return", "exit"}
        Whether the draws so far are returned then, with an `InterruptedWarning`, or `Preempted`
        ends the process, with the exit code of SIGTERM or `preempt_exit_code`.
    count_earlier_time : bool
        Whether the time that earlier calls sampled the run counts towards `max_time`.
    save_model : bool
        Whether model and arguments are kept in the store too, pickled by cloudpickle, so that
        ``checkpoint resume fit.zarr --trust`` continues the run without its script.
    until : callable, optional
        Criterion by which sampling stops before all draws are made: `checkpoint.until`, or a
        function that is given the run, as `checkpoint.open` returns it, and returns whether to
        stop. It is asked when all chains have 100, 125, 157, ... draws after warm-up, a quarter
        more each time, and all have the same number then. `draws` is the most there will be. The
        run records that it was met: the same call returns it, and an interrupted run stops where
        one left alone does. A function must decide by the draws alone for that.
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
        If the store holds a run of another model or with other settings; the error lists each.
    RunExistsError, RunNotFoundError
        If the store holds a run with ``resume="never"``, or none with ``resume="must"``.
    NotARunError, FormatVersionError, DamagedStoreError
        If the store cannot be read as a run. Its contents are not changed.
    RunLockedError
        If another process is writing the run.
    UnsupportedStepError, IncompleteStateError
        If a step method's state cannot be kept, or does not determine its next draw.
    ChainError
        If a chain fails, or its worker is killed again and again.
    StoreWriteError
        If the store cannot be written. What was recorded is intact. `StoreUnreachableError`, a
        subclass, if it does not answer.
    Preempted
        If one of `preempt_signals` arrived, or a deadline with ``on_deadline="exit"``. It is a
        `SystemExit`.
    TooFewDrawsError
        If sampling is stopped before there is a draw to return.

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
    options = Options.of(locals())
    stop_before = Deadline(max_time, deadline)
    check_has_guard()
    check_options(options)
    model = pymc_model.current_model(model)
    if not pymc_model.n_free_variables(model):
        raise ArgumentError(
            "Cannot sample from the model, since the model does not contain any free variables."
        )
    warn_about_arguments(discard_tuned_samples, return_inferencedata)
    warn_of_kept_draws(model)
    place = as_store(store)
    found = read_root.read_manifest(place)
    check_until(options, model, found)
    options = as_decided(found, as_recorded(found, options))
    with quietly(quiet), exact_compilation(bool(options.fastmath)):
        finished = result_of_finished(place, found, options, model)
        if finished is not None:
            return finished
        run = find_or_create(place, found, options, model)
        run, outcome = draw_missing(run, options, stop_before)
        return result(run, options, outcome)
