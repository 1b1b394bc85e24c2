"""What of a model the store keeps: its data and coordinates, and what tells it from others."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
from pymc.backends.arviz import (
    coords_and_dims_for_inferencedata,
    find_constants,
    find_observations,
)

from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import flatten

__all__ = [
    "coords_and_dims",
    "current_model",
    "data_groups",
    "differences",
    "digest",
    "fingerprint",
    "last_logp",
    "n_free_variables",
    "records_logp",
    "start_logp",
]


def current_model(model: Any) -> Any:
    """Return `model`, or that of the context."""
    return pm.modelcontext(model)


def n_free_variables(model: Any) -> int:
    """Return how many random variables there are to sample."""
    return len(model.free_RVs)


def coords_and_dims(model: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the coordinates by dimension, and the dimensions by variable."""
    coords, dims = coords_and_dims_for_inferencedata(model)
    return dict(coords), {name: list(names) for name, names in dims.items()}


def data_groups(model: Any) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Return the constant and the observed data of a model, by group and name."""
    with warnings.catch_warnings():
        # PyMC warns of symbolic observations when it makes the result; once is enough.
        warnings.simplefilter("ignore", UserWarning)
        groups = {"constant_data": find_constants(model), "observed_data": find_observations(model)}
    return {
        group: {name: np.asarray(value) for name, value in data.items()}
        for group, data in groups.items()
    }


def digest(value: Any) -> str:
    """Return a short text that differs when the values differ."""
    array = np.asarray(value)
    if array.dtype.kind in "OU":
        data = "\0".join(map(str, array.ravel().tolist())).encode()
    else:
        data = np.ascontiguousarray(array).tobytes()
    return f"{array.dtype.str} {list(array.shape)} {hashlib.sha256(data).hexdigest()[:16]}"


def fingerprint(model: Any) -> dict[str, str]:
    """Return what makes a model this model, as texts by what they describe."""
    facts: dict[str, str] = {}
    for rv in model.basic_RVs:
        value = model.rvs_to_values[rv]
        transform = model.rvs_to_transforms.get(rv)
        facts[f"variable {rv.name}"] = (
            f"{'observed' if rv in model.observed_RVs else 'free'} "
            f"{type(rv.owner.op).__name__} {value.dtype} of {value.ndim} dimensions, "
            f"transform {type(transform).__name__ if transform is not None else None}"
        )
    for rv in model.deterministics:
        facts[f"deterministic {rv.name}"] = f"{rv.dtype} of {rv.ndim} dimensions"
    for rv in model.potentials:
        facts[f"potential {rv.name}"] = f"{rv.dtype} of {rv.ndim} dimensions"
    for name, shape in model.eval_rv_shapes().items():
        facts[f"shape of {name}"] = str(tuple(int(n) for n in shape))
    coords, dims = coords_and_dims(model)
    for name, names in dims.items():
        facts[f"dims of {name}"] = str(names)
    for name, values in coords.items():
        facts[f"coords of {name}"] = digest(np.asarray(values))
    for group, data in data_groups(model).items():
        for name, values in data.items():
            facts[f"{group} {name}"] = digest(values)
    return facts


def differences(
    model: Any, coords: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a line for each recorded coordinate and datum that a model has with other values.

    Parameters
    ----------
    model : Model
    coords : mapping of str to array
        Coordinates by dimension.
    data : mapping of str to mapping of str to array
        Constant and observed data, by group and name.
    """
    now, _ = coords_and_dims(model)
    found = [
        f"coords of {dim}: recorded as {_shown(coords[dim])}, now {_shown(now[dim])}"
        for dim in sorted(set(coords) & set(now))
        if now[dim] is not None and not _same(coords[dim], now[dim])
    ]
    for group, of_model in data_groups(model).items():
        recorded = data.get(group, {})
        for name in sorted(set(of_model) & set(recorded)):
            if not _same(recorded[name], of_model[name]):
                found.append(f"{group} {name}: not what was recorded")
    return found


def _same(a: Any, b: Any) -> bool:
    # ArviZ 0 makes a vector of what is a single number.
    x, y = np.squeeze(np.asarray(a)), np.squeeze(np.asarray(b))
    if x.dtype.kind in "fc" and y.dtype.kind in "fc":
        return np.array_equal(x, y, equal_nan=True)
    # Files keep texts, dates and labels of several levels in other dtypes.
    return np.array_equal(x, y) or [str(v) for v in x.ravel()] == [str(v) for v in y.ravel()]


def _shown(values: Any) -> str:
    items = np.asarray(values).ravel()
    return ", ".join(map(str, items[:4])) + (" ..." if len(items) > 4 else "")


def start_logp(preparation: Preparation) -> list[float]:
    """Return the model's log-probability at the start of each chain."""
    function = preparation.model.compile_logp()
    return [float(function(point)) for point in preparation.initial_points]


def records_logp(preparation: Preparation) -> bool:
    """Return whether a stat is the log-probability of the recorded point.

    HamiltonianMC's is that of the proposal, accepted or not.
    """
    return isinstance(flatten(preparation.step)[-1], pm.NUTS)


def last_logp(preparation: Preparation, point: Mapping[str, Any]) -> float | None:
    """Return the log-probability at a point, from the function that the stat `model_logp` is of.

    None if there is no such stat; see `records_logp`.
    """
    if not records_logp(preparation):
        return None
    step = flatten(preparation.step)[-1]
    if step.shared:
        for name, shared in step.shared.items():
            shared.set_value(point[name])
    values = [point[var.name] for var in step.vars]
    raveled = np.concatenate([np.asarray(value).ravel() for value in values])
    logp, _ = step._logp_dlogp_func._pytensor_function(raveled)
    return float(logp)
