"""Make the result of the installed PyMC's `pm.sample` from recorded rows."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymc.backends.base import MultiTrace
from pymc.backends.ndarray import NDArray
from pymc.sampling import mcmc
from pymc.sampling.parallel import Draw
from pymc.stats.convergence import SamplerWarning, log_warning_stats

from checkpoint._pymc.progress import without_time
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import plain_classes
from checkpoint.errors import warn_caller
from checkpoint.format import plain

__all__ = [
    "MultiTrace",
    "Packaging",
    "as_draw",
    "log_warnings_of",
    "package",
    "recorder_into",
    "stats_columns",
    "trace_of",
]


def stats_columns(step: Any) -> list[tuple[int, str, str]]:
    """Return the stats of a step method as (method, name, dtype); text for objects."""
    columns = []
    for sampler_idx, dtypes in enumerate(step.stats_dtypes):
        for name, dtype in dtypes.items():
            kind = np.dtype(dtype) if dtype is not SamplerWarning else np.dtype(object)
            text = kind.kind in "OUSV"
            columns.append((sampler_idx, name, "text" if text else kind.str))
    return columns


def log_warnings_of(stats: Sequence[Mapping[str, Any]]) -> None:
    """Log the warnings of a draw, as PyMC's drivers do."""
    log_warning_stats(stats)


def as_draw(chain: int, is_last: bool, draw_idx: int, tuning: bool, stats: Any, point: Any) -> Any:
    """Return the draw that `pm.sample` passes to a callback."""
    return Draw(chain, is_last, draw_idx, tuning, stats, point)


@dataclass(frozen=True)
class Packaging:
    """The objects of PyMC that make a result from recorded rows.

    Attributes
    ----------
    model : Model
    recorder : NDArray
        Knows which variables are recorded.
    stats_dtypes : list of dict
        For each step method, dtypes of its stats by name.
    tune : int
    """

    model: Any
    recorder: NDArray
    stats_dtypes: list[dict[str, Any]]
    tune: int

    @staticmethod
    def of(preparation: Preparation) -> "Packaging":
        """Return the packaging of a run that is ready to draw."""
        stats_dtypes = preparation.step.stats_dtypes
        return Packaging(preparation.model, preparation.recorder, stats_dtypes, preparation.tune)

    @staticmethod
    def without_compiling(
        model: Any,
        variables: Mapping[str, tuple[Any, tuple[int, ...]]],
        stats_dtypes: list[dict[str, Any]],
        tune: int,
    ) -> "Packaging":
        """Return the packaging of a finished run.

        `variables` has the dtype and shape of each recorded variable by name, in PyMC's order.
        """
        known = {str(var.name): var for var in model.unobserved_value_vars}
        recorder = NDArray(
            model=model,
            vars=[known[name] for name in variables],
            fn=_computes_nothing,
            var_shapes={name: shape for name, (_, shape) in variables.items()},
            var_dtypes={name: dtype for name, (dtype, _) in variables.items()},
        )
        return Packaging(model, recorder, stats_dtypes, tune)


def _computes_nothing(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("This trace was made of a finished run: nothing was compiled.")


def recorder_into(trace: Any) -> Callable[[Any, Any, bool], None]:
    """Return a function that records a point, stats and the phase in a trace of PyMC's."""

    def record(point: Any, stats: Any, in_warmup: bool) -> None:
        trace.record(point, stats, in_warmup=in_warmup)

    # PyMC 5.28.0 and 5.28.1 do not take `in_warmup`.
    return (
        record
        if "in_warmup" in inspect.signature(trace.record).parameters
        else (lambda point, stats, in_warmup: trace.record(point, stats))
    )


def trace_of(
    packaging: Packaging,
    chain: int,
    values: Mapping[str, np.ndarray[Any, Any]],
    stats: Mapping[tuple[int, str], np.ndarray[Any, Any]],
    n_rows: int,
) -> NDArray:
    """Return PyMC's in-memory trace of one chain.

    Parameters
    ----------
    packaging : Packaging
    chain : int
    values : mapping of str to ndarray
        Recorded variables, each ``(n_rows, *shape)``.
    stats : mapping of (int, str) to ndarray
        Stats by step method and name.
    n_rows : int
        Recorded draws, warm-up included.
    """
    trace: Any = copy(packaging.recorder)
    # Make room for no draws: the recorded arrays are put in. The copy must not share its own.
    trace.samples, trace._stats = {}, None
    trace.setup(0, chain, packaging.stats_dtypes)
    trace.samples = {name: np.asarray(values[name]) for name in trace.varnames}
    trace._stats = [
        {name: _stat_values(stats[i, name], dtype) for name, dtype in dtypes.items()}
        for i, dtypes in enumerate(packaging.stats_dtypes)
    ]
    trace.draws = trace.draw_idx = n_rows
    return trace


def _stat_values(values: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    if values.dtype != object:
        return values.astype(dtype, copy=False)
    return plain.stat_objects(values, plain_classes()).astype(dtype, copy=False)


def package(
    packaging: Packaging,
    traces: Sequence[NDArray],
    *,
    sampling_time: float,
    says_time: bool,
    discard_tuned_samples: bool,
    compute_convergence_checks: bool,
    return_inferencedata: bool,
    keep_warning_stat: bool,
    idata_kwargs: Mapping[str, Any] | None,
    quiet: bool,
) -> Any:
    """Return what `pm.sample` returns, made and checked by the same function of PyMC.

    With `says_time`, PyMC logs how long sampling took.
    """
    known = inspect.signature(mcmc._sample_return).parameters
    optional = {"quiet": quiet} if "quiet" in known else {}
    with nullcontext() if says_time else without_time():
        return mcmc._sample_return(
            run=None,
            traces=traces,
            tune=packaging.tune,
            t_sampling=sampling_time,
            discard_tuned_samples=discard_tuned_samples,
            compute_convergence_checks=compute_convergence_checks,
            return_inferencedata=return_inferencedata,
            keep_warning_stat=keep_warning_stat,
            idata_kwargs=dict(idata_kwargs or {}),
            model=packaging.model,
            **optional,
        )


def warn_about_arguments(discard_tuned_samples: bool, return_inferencedata: bool) -> None:
    """Warn as `pm.sample` of this version does."""
    source = inspect.getsource(mcmc.sample)
    if not return_inferencedata and re.search(
        r"`return_inferencedata=False` is deprecated", source
    ):
        warn_caller(
            "`return_inferencedata=False` is deprecated and will be removed in a future "
            "release. Use the default `return_inferencedata=True` and work with the "
            "returned `InferenceData` object.",
            FutureWarning,
        )
