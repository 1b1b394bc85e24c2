"""PyMC's bases of trace backends, and the setup that `pm.sample` does not pass to a backend."""

import contextlib
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from inspect import unwrap
from types import FrameType
from typing import Any

import numpy as np
from pymc.backends.ndarray import NDArray
from pymc.sampling import mcmc
from pymc.step_methods.compound import StatsBijection

from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.model import coords_and_dims, current_model
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint._pymc.steps import (
    copy_generator,
    copy_step,
    flatten,
    is_population,
    state_items,
    uses_fastmath,
)

try:
    from pymc.backends import _ZarrChainBase as ChainBase
    from pymc.backends import _ZarrTraceBase as TraceBase
except ImportError:  # PyMC 5 checks for its own classes
    from pymc.backends.zarr import ZarrChain as ChainBase
    from pymc.backends.zarr import ZarrTrace as TraceBase

__all__ = [
    "ChainBase",
    "StatsBijection",
    "TraceBase",
    "coords_and_dims",
    "current_model",
    "prepared",
]


def prepared(
    step: Any,
    *,
    model: Any,
    variables: Sequence[Any] | None,
    start: Mapping[str, Any] | None,
    chains: int,
    draws: int,
    tune: int,
) -> tuple[Arguments, Preparation]:
    """Return the setup of the run that a trace is to record.

    `pm.sample` passes only the step method and one initial point to a trace. The generators, all
    initial points and the arguments are needed too: to continue a chain that was killed before its
    first draw, and to check that a later call asks for the same run. They are read from the frame
    of `pm.sample`. If there is none, the caller drives the step method by hand, and has started it.

    Parameters
    ----------
    step : step method
        It is copied.
    model : Model
    variables : sequence of variables, or None
        What is recorded; None for all.
    start : dict, optional
        An initial point.
    chains, draws, tune : int
    """
    frame = _frame_of_sample(step)
    if frame is None:
        return _driven_by_hand(step, model, variables, start, chains, draws, tune)
    known = frame.f_locals
    exclusive = known["exclusive_nuts"] and not known["provided_steps"]
    cores = int(known["cores"])
    preparation = Preparation(
        model=model,
        step=copy_step(step),
        initial_points=[dict(point) for point in known["initial_points"]],
        rngs=[copy_generator(rng) for rng in known["rngs"]],
        tune=tune,
        recorder=_recorder(step, model, variables, known["initial_points"][0]),
        is_initialised=bool(exclusive),
        sequential=is_population(step) or not (cores > 1 and chains > 1),
        cores=cores,
        mp_ctx=known["mp_ctx"],
        blas_limiter=known["joined_blas_limiter"],
        blas_cores_per_worker=known["num_blas_cores_per_worker"],
    )
    arguments = Arguments(
        model=model,
        draws=draws,
        tune=tune,
        chains=chains,
        cores=cores,
        random_seed=known["random_seed"],
        var_names=known["var_names"],
        initvals=known["initvals"],
        init=known["init"],
        compile_kwargs=dict(known["compile_kwargs"] or {}),
        backend=known.get("backend"),
    )
    return arguments, preparation


def _driven_by_hand(
    step: Any,
    model: Any,
    variables: Sequence[Any] | None,
    start: Mapping[str, Any] | None,
    chains: int,
    draws: int,
    tune: int,
) -> tuple[Arguments, Preparation]:
    point = dict(model.initial_point() if start is None else start)
    preparation = Preparation(
        model=model,
        step=copy_step(step),
        initial_points=[point] * chains,
        rngs=_generator_of(step).spawn(chains),
        tune=tune,
        recorder=_recorder(step, model, variables, point),
        is_initialised=False,
        sequential=True,
        cores=1,
        mp_ctx=multiprocessing.get_context(),
        blas_limiter=contextlib.nullcontext,
        blas_cores_per_worker=None,
        is_started=True,
    )
    arguments = Arguments(model=model, draws=draws, tune=tune, chains=chains, cores=1, step=step)
    return arguments, preparation


def _frame_of_sample(step: Any) -> FrameType | None:
    """Return the frame of the `pm.sample` that samples with this step method, or None."""
    code = unwrap(mcmc.sample).__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame if frame is not None and frame.f_locals.get("step") is step else None


def _recorder(
    step: Any, model: Any, variables: Sequence[Any] | None, start: Mapping[str, Any]
) -> NDArray:
    with exact_compilation(uses_fastmath(step)):
        return NDArray(model=model, vars=variables, test_point=start)


def _generator_of(step: Any) -> np.random.Generator:
    """Return a copy of the first generator of a step method; a new one if it has none."""
    for method in flatten(step):
        for item in state_items(method):
            if isinstance(item.value, np.random.Generator):
                return copy_generator(item.value)
    return np.random.default_rng()
