"""Adapt step methods to the draws of a chain whose sampler state was not kept.

The result is a valid sampler that is tuned as the one before, not the same one: its random numbers
are new, and so is all that no stat records.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.step_methods.hmc import quadpotential
from pymc.step_methods.hmc.base_hmc import BaseHMC

from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import copy_step, flatten, link_population, start_chain, step_name
from checkpoint.errors import ArgumentError

__all__ = ["adapt", "needs_stats", "stepped_once"]

Values = np.ndarray[Any, Any]
Stats = Mapping[tuple[int, str], Values]

_WITHOUT_TUNING = (pm.BinaryMetropolis, pm.BinaryGibbsMetropolis, pm.CategoricalGibbsMetropolis)


def needs_stats(step: Any) -> list[tuple[int, str]]:
    """Return the stats that `adapt` requires, as (step method, name)."""
    return [
        (step_idx, "step_size_bar")
        for step_idx, method in enumerate(flatten(step))
        if isinstance(method, BaseHMC)
    ]


def stepped_once(
    preparation: Preparation,
    rng: np.random.Generator,
    points: Sequence[Mapping[str, Values]],
    chain: int,
) -> Any:
    """Return a started step method, not tuned, after one draw, which is dropped.

    Some fields have another shape until the first draw. It is made from `points[chain]`, the last
    point of the chain.
    """
    step = copy_step(preparation.step)
    # Start as PyMC's driver for one process does: only that resets the tuning.
    start_chain(step, rng, 1, 1, sequential=not preparation.is_population)
    if preparation.is_population:
        link_population(step, [dict(point) for point in points], chain)
    step.step(dict(points[chain]))
    if hasattr(step, "reset_tuning"):
        step.reset_tuning()
    return step


def adapt(
    step: Any, shown: Mapping[str, Values], draws: Mapping[str, Values], stats: Stats, tune: int
) -> list[str]:
    """Set the state of a started step method by the draws of its chain, and end its tuning.

    Parameters
    ----------
    step : step method
    shown : mapping of str to ndarray
        Value variables of the draws that the mass matrix is to be estimated from.
    draws : mapping of str to ndarray
        Value variables of all draws of the chain, ``(n_draws, *shape)``.
    stats : mapping of (int, str) to ndarray
        Stats of all draws, by step method and name; those that were recorded.
    tune : int
        Number of draws, at the start, that are of warm-up.

    Returns
    -------
    list of str
        What the draws do not determine and is therefore new, as text for messages.

    Raises
    ------
    ArgumentError
        If the last step size of the chain is not a positive number.
    """
    lost: list[str] = []
    for step_idx, method in enumerate(flatten(step)):
        of_step = {name: values for (i, name), values in stats.items() if i == step_idx}
        if isinstance(method, BaseHMC):
            _adapt_hmc(method, _raveled(method, shown), of_step, tune)
        elif isinstance(method, pm.Metropolis | pm.DEMetropolis | pm.DEMetropolisZ):
            lost += _adapt_metropolis(method, of_step)
        elif not isinstance(method, _WITHOUT_TUNING):
            lost.append(f"what {step_name(method)} adapted, which no stat records")
        _end_tuning(method, draws, tune)
    return lost


def _adapt_hmc(method: Any, shown: Values, stats: Mapping[str, Values], tune: int) -> None:
    step_size, bar = float(stats["step_size"][-1]), float(stats["step_size_bar"][-1])
    if not (0 < step_size < np.inf and 0 < bar < np.inf):
        raise ArgumentError(
            f"The last step size of a chain is {step_size!r}, on average {bar!r}; expected "
            "positive numbers. Nothing was written. Drop that chain from the source."
        )
    adaptation = method.step_adapt
    adaptation._log_step, adaptation._log_bar = _log_of(step_size), _log_of(bar)
    adaptation._count = tune + 1
    adaptation._tuned_stats = list(stats.get("mean_tree_accept", np.zeros(0))[tune:])
    method.step_size = np.exp(adaptation._log_bar)
    n_draws = len(stats["step_size"])
    diverged = int(np.sum(stats.get("diverging", np.zeros(n_draws))[tune:]))
    method.iter_count = n_draws
    method.divergences = method._num_divs_sample = diverged
    # Update the mass matrix as if it had made these draws: PyMC's own windows and regularisation,
    # no formula of ours.
    for q in shown:
        method.potential.update(q, _gradient(method, q), True)


def _adapt_metropolis(method: Any, stats: Mapping[str, Values]) -> list[str]:
    lost = []
    if "scaling" in stats:
        method.scaling = np.full_like(method.scaling, stats["scaling"][-1])
        if isinstance(method, pm.Metropolis) and method.accepted_sum.size > 1:
            lost.append(
                f"the scaling of each element in {step_name(method)}: all have their mean now"
            )
    else:
        lost.append(f"the scaling of {step_name(method)}")
    if "lambda" in stats:
        method.lamb = float(stats["lambda"][-1])
    return lost


def _end_tuning(method: Any, draws: Mapping[str, Values], tune: int) -> None:
    if not isinstance(method, pm.DEMetropolisZ):
        method.stop_tuning()
        return
    # It proposes from its history, and drops most of that when tuning ends.
    past = list(_raveled(method, draws))
    method._history = past[:tune]
    method.stop_tuning()
    method._history += past[tune:]


def _gradient(method: Any, q: Values) -> Any:
    """Return the gradient of the log-probability; None if the mass matrix does not use it."""
    if not getattr(method.potential, "_use_grads", False):
        return None
    assert isinstance(method.potential, quadpotential.QuadPotentialDiagAdaptExp)
    _, gradient = method._logp_dlogp_func._pytensor_function(q)
    return np.array(gradient)


def _raveled(method: Any, draws: Mapping[str, Values]) -> Values:
    """Return the draws of a step method's variables as flat vectors, ``(n_draws, n)``."""
    parts: Sequence[Values] = [draws[str(var.name)] for var in method.vars]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _log_of(value: float) -> Any:
    """Return a logarithm whose exponential is the value again, if there is one."""
    log = np.log(value)
    near = (log, np.nextafter(log, -np.inf), np.nextafter(log, np.inf))
    return next((candidate for candidate in near if np.exp(candidate) == value), log)
