"""Set up a run as `pm.sample` does, from its arguments or from what a store has recorded.

`prepare` follows the first half of `pm.sample` line by line: the same calls in the same order
draw the same random numbers, which makes the runs equal. `prepare_again` skips the initialisation
and uses the recorded initial points, mass matrix and generators instead.
"""

import contextlib
import inspect
import multiprocessing.context
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pymc.backends.ndarray import NDArray
from pymc.exceptions import SamplingError
from pymc.initial_point import make_initial_point_fns_per_chain
from pymc.sampling import mcmc
from pymc.sampling.parallel import _cpu_count, _initialize_multiprocessing_context
from pymc.step_methods.compound import CompoundStep
from pymc.step_methods.hmc import quadpotential
from pymc.util import get_random_generator
from pytensor.compile.mode import get_mode

from checkpoint._pymc.compile_mode import check_mode
from checkpoint._pymc.exactness import compiling
from checkpoint._pymc.steps import Step, compile_again, is_population, relink_potential
from checkpoint.errors import ArgumentError, ChainError, UnknownArgumentError

__all__ = ["Arguments", "Preparation", "prepare", "prepare_again"]

Point = dict[str, np.ndarray[Any, Any]]

_POTENTIALS: dict[str, type] = {
    "adapt_diag": quadpotential.QuadPotentialDiagAdapt,
    "jitter+adapt_diag": quadpotential.QuadPotentialDiagAdapt,
    "jitter+adapt_diag_grad": quadpotential.QuadPotentialDiagAdaptExp,
    "advi+adapt_diag": quadpotential.QuadPotentialDiagAdapt,
    "advi": quadpotential.QuadPotentialDiag,
    "advi_map": quadpotential.QuadPotentialDiag,
    "map": quadpotential.QuadPotentialFull,
    "jitter+map": quadpotential.QuadPotentialFull,
    "adapt_full": quadpotential.QuadPotentialFullAdapt,
    "jitter+adapt_full": quadpotential.QuadPotentialFullAdapt,
}


@dataclass(frozen=True)
class Arguments:
    """The arguments of `pm.sample` that the setup depends on, with its defaults."""

    model: Any
    draws: int = 1000
    tune: int | None = None
    chains: int | None = None
    cores: int | None = None
    random_seed: Any = None
    step: Any = None
    var_names: Sequence[str] | None = None
    initvals: Any = None
    init: str = "auto"
    jitter_max_retries: int = 10
    n_init: int = 200_000
    mp_ctx: Any = None
    blas_cores: Any = "auto"
    compile_kwargs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    step_kwargs: Mapping[str, Any] = field(default_factory=dict)
    progressbar: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Preparation:
    """All that the drivers need of PyMC to draw.

    Attributes
    ----------
    step : step method
        Made, but not started: each chain starts a copy.
    initial_points : list of dict
        Start of each chain, by value variable.
    rngs : list of Generator
        Generator of each chain, as it is handed to the step method.
    tune : int
    recorder : NDArray
        Knows which variables are recorded, and computes them from a point (`recorder.fn`).
    is_initialised : bool
        Whether the NUTS step method was made by `pm.init_nuts`.
    sequential : bool
        Whether PyMC would have used its driver for one process.
    is_started : bool
        Whether the caller, not a driver of PyMC's, has started the step method.
    """

    model: Any
    step: Step
    initial_points: list[Point]
    rngs: list[np.random.Generator]
    tune: int
    recorder: NDArray
    is_initialised: bool
    sequential: bool
    cores: int
    mp_ctx: multiprocessing.context.BaseContext
    blas_limiter: Callable[[], contextlib.AbstractContextManager[Any]]
    blas_cores_per_worker: int | None
    is_started: bool = False

    @property
    def chains(self) -> int:
        return len(self.initial_points)

    @property
    def is_population(self) -> bool:
        return is_population(self.step)

    @property
    def value_names(self) -> list[str]:
        """Names of the value variables, in the order that `recorder.fn` takes them."""
        return [str(var.name) for var in self.model.value_vars]


@compiling()
def prepare(arguments: Arguments) -> Preparation:
    """Set up a new run.

    Raises
    ------
    ChainError
        If the model has no finite log-probability where the chains start.
    """
    try:
        return _prepare(arguments)
    except SamplingError as error:
        raise ChainError(
            f"The chains cannot start: {error} Nothing was written. "
            "Fix the model or its initvals, then run the same command again."
        ) from error


def _prepare(arguments: Arguments) -> Preparation:
    plan = _Plan(arguments)
    rngs = get_random_generator(arguments.random_seed).spawn(plan.chains)
    # pm.sample draws these from the generators before it hands them to the step methods.
    seeds = [rng.integers(2**30) for rng in rngs]
    if plan.initialises_nuts:
        with plan.blas_limiter():
            initial_points, step = mcmc.init_nuts(
                init=arguments.init,
                chains=plan.chains,
                n_init=arguments.n_init,
                model=plan.model,
                random_seed=seeds,
                progressbar=arguments.progressbar and not arguments.quiet,
                jitter_max_retries=arguments.jitter_max_retries,
                tune=_tune_for_init(arguments.tune),
                initvals=arguments.initvals,
                compile_kwargs=plan.compile_kwargs,
                **_supported(mcmc.init_nuts, quiet=arguments.quiet),
                **plan.nuts_kwargs,
            )
    else:
        make_points = make_initial_point_fns_per_chain(
            model=plan.model, overrides=arguments.initvals, jitter_rvs=set(), chains=plan.chains
        )
        initial_points = [make(seed) for make, seed in zip(make_points, seeds, strict=True)]
        step = plan.instantiate(initial_points[0])
    return plan.finish(step, [dict(point) for point in initial_points], rngs)


@compiling()
def prepare_again(
    arguments: Arguments,
    initial_points: list[Point],
    rngs: list[np.random.Generator],
    potential: Mapping[str, Any],
) -> Preparation:
    """Set up a run that a store has recorded.

    Parameters
    ----------
    arguments : Arguments
    initial_points, rngs
        As `prepare` returned them when the run began.
    potential : mapping of str to object
        Fixed attributes of the mass matrix that `pm.init_nuts` made when the run began.
    """
    plan = _Plan(replace(arguments, chains=len(initial_points)))
    if plan.initialises_nuts:
        step = _remake_nuts(plan, initial_points[0], potential)
    else:
        step = plan.instantiate(initial_points[0])
    return plan.finish(step, initial_points, rngs)


class _Plan:
    """The decisions of `pm.sample` from its arguments, before it draws a random number."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.model = arguments.model
        self.compile_kwargs = _resolve_compile_kwargs(arguments)
        cores = min(4, _cpu_count()) if arguments.cores is None else arguments.cores
        # _cpu_count() is 0 on a machine of one core.
        cores = max(1, cores)
        self.chains = max(2, cores) if arguments.chains is None else arguments.chains
        self.mp_ctx = _initialize_multiprocessing_context(
            arguments.mp_ctx,
            **_supported(
                _initialize_multiprocessing_context,
                mode=self.compile_kwargs.get("mode"),
                quiet=arguments.quiet,
            ),
        )
        self.blas_limiter, self.cores, self.blas_cores_per_worker = mcmc.setup_cores_blas_cores(
            arguments.blas_cores, self.chains, cores, self.mp_ctx
        )
        self.provided, self.selected = mcmc.assign_step_methods(
            self.model, arguments.step, methods=_step_methods()
        )
        if not pytensor.config.numba__fastmath:
            self.provided = [compile_again(step) for step in self.provided]
        self.initialises_nuts = (
            not self.provided
            and len(self.selected) == 1
            and issubclass(next(iter(self.selected)), pm.NUTS)
        )
        self.nuts_kwargs = dict(arguments.step_kwargs)
        if self.initialises_nuts:
            self.nuts_kwargs |= self.nuts_kwargs.pop("nuts", {})
            _refuse_unknown_nuts_arguments(self.nuts_kwargs)

    def instantiate(self, initial_point: Point) -> Step:
        try:
            step = mcmc.instantiate_steppers(
                self.model,
                steps=self.provided,
                selected_steps=self.selected,
                step_kwargs=dict(self.arguments.step_kwargs),
                initial_point=initial_point,
                compile_kwargs=self.compile_kwargs,
            )
        except ValueError as error:
            if "found in step_kwargs" not in str(error):
                raise
            raise UnknownArgumentError(str(error)) from error
        return CompoundStep(step) if isinstance(step, list) else step

    def finish(
        self, step: Step, initial_points: list[Point], rngs: list[np.random.Generator]
    ) -> Preparation:
        trace_vars = _trace_vars(self.model, self.arguments.var_names)
        recorder = NDArray(model=self.model, vars=trace_vars, test_point=initial_points[0])
        parallel = self.cores > 1 and self.chains > 1 and not is_population(step)
        return Preparation(
            model=self.model,
            step=step,
            initial_points=initial_points,
            rngs=rngs,
            tune=_default_tune(step, self.arguments.tune),
            recorder=recorder,
            is_initialised=self.initialises_nuts,
            sequential=not parallel,
            cores=self.cores,
            mp_ctx=self.mp_ctx,
            blas_limiter=self.blas_limiter,
            blas_cores_per_worker=self.blas_cores_per_worker,
        )


def _remake_nuts(plan: _Plan, initial_point: Point, fixed: Mapping[str, Any]) -> Step:
    """Make the step method of `pm.init_nuts` without its search for a start or mass matrix."""
    function = plan.model.logp_dlogp_function(ravel_inputs=True, **plan.compile_kwargs)
    function.trust_input = True
    step = pm.NUTS(
        model=plan.model,
        rng=0,
        initial_point=initial_point,
        logp_dlogp_func=function,
        **plan.nuts_kwargs,
    )
    init = plan.arguments.init.lower()
    cls = _POTENTIALS["jitter+adapt_diag" if init == "auto" else init]
    relink_potential(step, _empty_potential(cls, step.potential._n, fixed))
    return step


def _empty_potential(cls: type, n: int, fixed: Mapping[str, Any]) -> Any:
    """Make a mass matrix of a class, with its fixed attributes; the rest is restored later."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "QuadPotentialFullAdapt is an experimental feature")
        if issubclass(cls, quadpotential.QuadPotentialDiagAdaptExp):
            potential: Any = cls(n, np.zeros(n), alpha=0.02, rng=0)
        elif issubclass(
            cls, quadpotential.QuadPotentialDiagAdapt | quadpotential.QuadPotentialFullAdapt
        ):
            potential = cls(n, np.zeros(n), rng=0)
        elif issubclass(cls, quadpotential.QuadPotentialDiag):
            potential = cls(np.ones(n), rng=0)
        else:
            potential = cls(np.eye(n), rng=0)
    for name, value in fixed.items():
        setattr(potential, name, value)
    reset = getattr(potential, "reset", None)
    if reset is not None:
        reset()
    return potential


def _step_methods() -> Any:
    """Return the list that `pm.sample` chooses from; packages such as pymc-bart add to it."""
    return mcmc.STEP_METHODS if hasattr(mcmc, "STEP_METHODS") else pm.STEP_METHODS  # PyMC 5


def _default_tune(step: Step, tune: int | None) -> int:
    if tune is not None:
        return tune
    default = getattr(mcmc, "get_default_tune_steps", None)  # PyMC 6
    return 1000 if default is None else int(default(step, None))


def _tune_for_init(tune: int | None) -> int | None:
    """Return `tune` as `pm.sample` passes it to `pm.init_nuts`: PyMC 6 keeps None."""
    if tune is None and inspect.signature(pm.sample).parameters["tune"].default is not None:
        return int(inspect.signature(pm.sample).parameters["tune"].default)
    return tune


def _trace_vars(model: Any, var_names: Sequence[str] | None) -> Any:
    if var_names is None:
        return None
    found = [var for var in model.unobserved_RVs if var.name in var_names]
    missing = sorted(set(var_names) - {var.name for var in found})
    if missing:
        known = ", ".join(sorted(var.name for var in model.unobserved_RVs))
        raise ArgumentError(
            f"var_names={list(var_names)!r}: {', '.join(missing)} not found in the model; "
            f"expected names among {known}."
        )
    return model.replace_rvs_by_values(found)


def _resolve_compile_kwargs(arguments: Arguments) -> dict[str, Any]:
    compile_kwargs = dict(arguments.compile_kwargs)
    check_mode(arguments.backend, compile_kwargs.get("mode"))
    if arguments.backend is None:
        return compile_kwargs
    if "mode" in compile_kwargs:
        raise ArgumentError(
            "Both backend and compile_kwargs['mode'] were given; expected at most one."
        )
    # As in PyMC 6: "c" stands for PyTensor's default backend of C and a virtual machine.
    compile_kwargs["mode"] = get_mode("cvm" if arguments.backend == "c" else arguments.backend)
    return compile_kwargs


def _refuse_unknown_nuts_arguments(given: Mapping[str, Any]) -> None:
    known: set[str] = set()
    for cls in pm.NUTS.__mro__:
        if "__init__" in vars(cls) and cls is not object:
            known |= set(inspect.signature(cls.__init__).parameters)
    known -= {"self", "vars", "model", "kwargs", "pytensor_kwargs", "shared", "fs", "allvars"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UnknownArgumentError(
            f"Unknown argument {', '.join(unknown)}: neither an argument of checkpoint.sample nor "
            f"of the step method NUTS, which takes {', '.join(sorted(known))}."
        )


def _supported(function: Callable[..., Any], **kwargs: Any) -> dict[str, Any]:
    """Return those arguments that this version's `function` has."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in kwargs.items() if name in parameters}
