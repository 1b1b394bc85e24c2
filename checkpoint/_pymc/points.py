"""Compute the value variables, which are sampled, from the free variables."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytensor
from pytensor.graph.replace import graph_replace

__all__ = ["free_names", "unconstrained_draws"]

Values = np.ndarray[Any, Any]


def free_names(model: Any) -> dict[str, str]:
    """Return the name of the free variable for each name of a value variable."""
    return {str(model.rvs_to_values[rv].name): str(rv.name) for rv in model.free_RVs}


def unconstrained_draws(model: Any, draws: Mapping[str, Values]) -> dict[str, Values]:
    """Return the values of all value variables, each ``(n_draws, *shape)``.

    Parameters
    ----------
    model : Model
    draws : mapping of str to ndarray
        Free variables, each ``(n_draws, *shape)``. Value variables that are there too are taken
        as they are.
    """
    free = list(model.free_RVs)
    values = {str(model.rvs_to_values[rv].name): model.rvs_to_values[rv] for rv in free}
    computed = [name for name in values if name not in draws]
    found = {name: np.asarray(draws[name]) for name in values if name in draws}
    if computed:
        function = _forward(model, computed)
        rows = zip(*(draws[str(rv.name)] for rv in free), strict=True)
        results = [function(*row) for row in rows]
        for i, name in enumerate(computed):
            found[name] = np.stack([np.asarray(result[i]) for result in results])
    return {name: found[name].astype(values[name].dtype, copy=False) for name in values}


def _forward(model: Any, names: list[str]) -> Callable[..., list[Any]]:
    """Compile a function of all free variables that returns some value variables."""
    inputs = {rv: rv.type(f"{rv.name}_drawn") for rv in model.free_RVs}
    outputs = []
    for rv, drawn in inputs.items():
        if str(model.rvs_to_values[rv].name) in names:
            # Parameters of the variable, which its transform may depend on, may be drawn too.
            outputs.append(model.rvs_to_transforms[rv].forward(drawn, *rv.owner.inputs))
    outputs = graph_replace(outputs, inputs, strict=False)
    function: Callable[..., list[Any]] = pytensor.function(
        list(inputs.values()), outputs, on_unused_input="ignore"
    )
    return function
