"""From recorded rows to what `pm.sample` of the installed PyMC returns."""

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from pymc.backends.ndarray import NDArray
from pymc.sampling import mcmc
from pymc.sampling.parallel import Draw
from pymc.stats.convergence import SamplerWarning, log_warning_stats

from checkpoint import plain
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import plain_classes

__all__ = [
    "STAT_NAMES",
    "as_draw",
    "log_warnings_of",
    "package",
    "stat_objects",
    "stats_columns",
    "trace_of",
]

STAT_NAMES = {
    "model_logp": "lp",
    "mean_tree_accept": "acceptance_rate",
    "depth": "tree_depth",
    "tree_size": "n_steps",
}
"""PyMC's names of stats -> those in the result."""


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
    """Return what `pm.sample` hands to a callback."""
    return Draw(chain, is_last, draw_idx, tuning, stats, point)


def trace_of(
    preparation: Preparation,
    chain: int,
    values: Mapping[str, np.ndarray[Any, Any]],
    stats: Mapping[tuple[int, str], np.ndarray[Any, Any]],
    n_rows: int,
) -> NDArray:
    """Return PyMC's in-memory trace of one chain.

    Parameters
    ----------
    preparation : Preparation
    chain : int
    values : mapping of str to ndarray
        Recorded variables, each ``(n_rows, *shape)``.
    stats : mapping of (int, str) to ndarray
        Stats by step method and name.
    n_rows : int
        Recorded draws, warm-up included.
    """
    trace: Any = copy(preparation.recorder)
    trace.setup(n_rows, chain, preparation.step.stats_dtypes)
    trace.samples = {name: np.asarray(values[name]) for name in trace.varnames}
    trace._stats = [
        {name: _stat_values(stats[i, name], dtype) for name, dtype in dtypes.items()}
        for i, dtypes in enumerate(preparation.step.stats_dtypes)
    ]
    trace.draw_idx = n_rows
    return trace


def _stat_values(values: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    if values.dtype != object:
        return values.astype(dtype, copy=False)
    return stat_objects(values).astype(dtype, copy=False)


def stat_objects(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the objects, such as warnings, of which a stat has the texts; None for none."""
    classes = plain_classes()
    rebuilt = np.empty(texts.shape, dtype=object)
    for index, text in np.ndenumerate(texts):
        rebuilt[index] = plain.loads(text, classes) if text else None
    return rebuilt


def package(
    preparation: Preparation,
    traces: Sequence[NDArray],
    *,
    sampling_time: float,
    discard_tuned_samples: bool,
    compute_convergence_checks: bool,
    return_inferencedata: bool,
    keep_warning_stat: bool,
    idata_kwargs: Mapping[str, Any] | None,
    quiet: bool,
) -> Any:
    """Return what `pm.sample` returns, made and checked by the same function of PyMC."""
    known = inspect.signature(mcmc._sample_return).parameters
    optional = {"quiet": quiet} if "quiet" in known else {}
    return mcmc._sample_return(
        run=None,
        traces=traces,
        tune=preparation.tune,
        t_sampling=sampling_time,
        discard_tuned_samples=discard_tuned_samples,
        compute_convergence_checks=compute_convergence_checks,
        return_inferencedata=return_inferencedata,
        keep_warning_stat=keep_warning_stat,
        idata_kwargs=dict(idata_kwargs or {}),
        model=preparation.model,
        **optional,
    )


def warn_about_arguments(discard_tuned_samples: bool, return_inferencedata: bool) -> None:
    """Warn as `pm.sample` of this version does."""
    source = inspect.getsource(mcmc.sample)
    if not return_inferencedata and re.search(
        r"`return_inferencedata=False` is deprecated", source
    ):
        warnings.warn(
            "`return_inferencedata=False` is deprecated and will be removed in a future "
            "release. Use the default `return_inferencedata=True` and work with the "
            "returned `InferenceData` object.",
            FutureWarning,
            stacklevel=3,
        )
