"""The data and coordinates of a model as a store keeps them, and facts that identify the model."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import xarray
from pymc.backends.arviz import (
    coords_and_dims_for_inferencedata,
    find_constants,
    find_observations,
)
from pytensor.compile.sharedvalue import SharedVariable

from checkpoint._pymc.exactness import compiling
from checkpoint._pymc.points import free_names
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import flatten
from checkpoint.errors import ArgumentError
from checkpoint.format import layout

__all__ = [
    "changed_values",
    "check_coords",
    "check_names",
    "compiled_numbers",
    "coords_and_dims",
    "current_model",
    "data_differences",
    "data_groups",
    "digest",
    "dims_of",
    "fingerprint",
    "last_logp",
    "n_free_variables",
    "old_fingerprint",
    "recorded_names",
    "records_logp",
    "result_coords",
    "result_dims",
    "start_logp",
    "transformed_names",
]


_RETURNS_TREE = int(pm.__version__.split(".")[0]) >= 6
"""Whether PyMC returns a DataTree (6), not an InferenceData (5)."""


def current_model(model: Any) -> Any:
    """Return `model`, or the model of the context if it is None."""
    return pm.modelcontext(model)


def n_free_variables(model: Any) -> int:
    """Return the number of free random variables."""
    return len(model.free_RVs)


def coords_and_dims(model: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the coordinates by dimension, and the dimensions by variable."""
    coords, dims = coords_and_dims_for_inferencedata(model)
    return dict(coords), {name: list(names) for name, names in dims.items()}


def result_coords(model: Any) -> dict[str, Any]:
    """Return the coordinates by dimension as the result of sampling has them, dtype included.

    Coordinates of several dimensions, which no result can have, are returned as in the model.
    """
    coords, _ = coords_and_dims(model)
    return {
        dim: xarray.Variable((dim,), values).values if np.ndim(values) == 1 else values
        for dim, values in coords.items()
    }


def result_dims(model: Any) -> dict[str, list[str]]:
    """Return the dimensions by variable as the result of sampling names them.

    PyMC 6 numbers the unnamed dimensions one after the other, PyMC 5 by their axis.
    """
    _, dims = coords_and_dims(model)
    by_place = not _RETURNS_TREE
    named = {}
    for name, of_variable in dims.items():
        unnamed = [i for i, dim in enumerate(of_variable) if dim is None]
        named[name] = [
            f"{name}_dim_{i if by_place else unnamed.index(i)}" if dim is None else dim
            for i, dim in enumerate(of_variable)
        ]
    return named


def recorded_names(model: Any, var_names: Sequence[str] | None) -> list[str]:
    """Return the names of the variables that a result of sampling has, in the model's order."""
    names = [str(var.name) for var in model.unobserved_RVs]
    return [name for name in names if var_names is None or name in var_names]


def dims_of(model: Any, var_names: Sequence[str]) -> list[str]:
    """Return the dimensions of variables as the result of sampling names them."""
    named = result_dims(model)
    dims: dict[str, None] = {}
    for name in var_names:
        unnamed = [f"{name}_dim_{i}" for i in range(model[name].ndim)]
        dims |= dict.fromkeys(named.get(name, unnamed))
    return list(dims)


def transformed_names(model: Any) -> set[str]:
    """Return the names of the value variables that are not the free variables themselves."""
    return {value for value, name in free_names(model).items() if value != name}


def check_names(model: Any) -> None:
    """Check that a store, and the result of sampling, can have the names of a model.

    Raises
    ------
    ArgumentError
        If it cannot; it says which name and why.
    """
    kinds = {
        "variable": {str(var.name) for var in model.unobserved_RVs}
        | {name for group in data_groups(model).values() for name in group},
        "dimension": {dim for names in result_dims(model).values() for dim in names},
    }
    for kind, names in kinds.items():
        for name in sorted(names):
            reason = layout.unstorable_name(name, ("", "_dim_00"))
            if name in ("chain", "draw") and kind == "variable":
                reason = "is a dimension of the draws: pm.sample leaves it out of its result"
            elif kind == "dimension" and "/" in name and _RETURNS_TREE:
                reason = "holds a slash, which no DataTree can: pm.sample cannot return it"
            if reason:
                shown = f"{name[:40]}..." if len(name) > 43 else name
                raise ArgumentError(
                    f"The name of the {kind} {shown!r} {reason}. Nothing was written. "
                    "Give it another name."
                )


def check_coords(model: Any) -> None:
    """Check that a store can hold the coordinates that the result of sampling has.

    Raises
    ------
    ArgumentError
        If it cannot; it names them.
    """
    coords, dims = result_coords(model), coords_and_dims(model)[1]
    used = {dim for names in dims.values() for dim in names}
    for dim in sorted(used & coords.keys()):
        if reason := _not_storable(coords[dim]):
            raise ArgumentError(
                f"The coordinates of the dimension {dim!r} are {reason}. Nothing was written. "
                f"Give the model others, such as text: coords={{{dim!r}: list(map(str, values))}}."
            )


def _not_storable(values: Any) -> str:
    """Return why no store can hold coordinates, or an empty text if one can."""
    array = np.asarray(values)
    if array.ndim != 1:
        return f"of {array.ndim} dimensions, as of a MultiIndex: pm.sample cannot return them"
    if array.dtype.kind == "O":
        kinds = sorted({type(item).__name__ for item in array.tolist()})
        return f"objects ({', '.join(kinds)}): no Zarr or netCDF file holds them, xarray's neither"
    if array.dtype.kind == "V" or array.dtype.type in (np.longdouble, np.clongdouble):
        return f"of the dtype {array.dtype}: Zarr readers have none that is like it"
    if array.dtype.kind == "U" and not all(map(_is_utf8, array.tolist())):
        return "text with lone surrogates, which UTF-8 cannot hold"
    return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    """Return the variables of a model with their shapes, dims and data, as texts by name.

    `checkpoint._pymc.fingerprint` describes their distributions and expressions.
    """
    facts: dict[str, str] = {}
    for rv in model.basic_RVs:
        value = model.rvs_to_values[rv]
        facts[f"variable {rv.name}"] = (
            f"{_kind(model, rv)} {value.dtype} of {value.ndim} dimensions"
        )
    for rv, shape in _shapes(model).items():
        facts[f"shape of {rv.name}"] = str(shape)
    return facts | _facts_of_all(model)


def old_fingerprint(model: Any) -> dict[str, str]:
    """Return the facts of a model as older stores, without a graph fingerprint, record them."""
    facts: dict[str, str] = {}
    for rv in model.basic_RVs:
        value = model.rvs_to_values[rv]
        transform = model.rvs_to_transforms.get(rv)
        facts[f"variable {rv.name}"] = (
            f"{_kind(model, rv)} {type(rv.owner.op).__name__} {value.dtype} of {value.ndim} "
            f"dimensions, transform {type(transform).__name__ if transform is not None else None}"
        )
    for name, shape in model.eval_rv_shapes().items():
        facts[f"shape of {name}"] = str(tuple(int(n) for n in shape))
    return facts | _facts_of_all(model)


def _kind(model: Any, rv: Any) -> str:
    return "observed" if rv in model.observed_RVs else "free"


def _facts_of_all(model: Any) -> dict[str, str]:
    facts: dict[str, str] = {}
    for rv in model.deterministics:
        facts[f"deterministic {rv.name}"] = f"{rv.dtype} of {rv.ndim} dimensions"
    for rv in model.potentials:
        facts[f"potential {rv.name}"] = f"{rv.dtype} of {rv.ndim} dimensions"
    coords, dims = coords_and_dims(model)
    for name, names in dims.items():
        facts[f"dims of {name}"] = str(names)
    for name, values in coords.items():
        facts[f"coords of {name}"] = digest(np.asarray(values))
    for group, data in data_groups(model).items():
        for name, values in data.items():
            facts[f"{group} {name}"] = digest(values)
    return facts


def _shapes(model: Any) -> dict[Any, tuple[int, ...]]:
    """Return the shapes of the free variables; compile only if a shape must be computed."""
    shapes: dict[Any, tuple[int, ...]] = {}
    for rv in model.free_RVs:
        shape = list(rv.type.shape)
        dims = model.named_vars_to_dims.get(rv.name) or (None,) * len(shape)
        for axis, (length, dim) in enumerate(zip(shape, dims, strict=True)):
            known = model.dim_lengths.get(dim)
            if length is None and known is not None and known.owner is None:
                is_shared = isinstance(known, SharedVariable)
                shape[axis] = int(known.get_value() if is_shared else known.data)
        shapes[rv] = tuple(shape)
    if any(None in shape for shape in shapes.values()):
        computed = model.eval_rv_shapes()
        shapes = {rv: tuple(int(n) for n in computed[rv.name]) for rv in shapes}
    return shapes


def data_differences(
    model: Any, coords: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a line for each recorded coordinate and datum whose values differ in the model.

    Parameters
    ----------
    model : Model
    coords : mapping of str to array
        Coordinates by dimension.
    data : mapping of str to mapping of str to array
        Constant and observed data, by group and name.
    """
    now = result_coords(model)
    found = [
        f"coords of {dim}: recorded as {_shown(coords[dim])}, now {_shown(now[dim])}"
        for dim in sorted(set(coords) & set(now))
        if now[dim] is not None and not _same(coords[dim], now[dim])
    ]
    for group, of_model in data_groups(model).items():
        recorded = data.get(group, {})
        for name in sorted(set(of_model) & set(recorded)):
            if not _same(recorded[name], of_model[name]):
                found.append(f"{group} {name}: {_changed(recorded[name], of_model[name])}")
    return found


def _changed(recorded: Any, now: Any) -> str:
    before, after = np.squeeze(np.asarray(recorded)), np.squeeze(np.asarray(now))
    return changed_values(before, after) or "not what was recorded"


def changed_values(recorded: Any, now: Any) -> str:
    """Return where two arrays differ, and how, as text; empty if they are equal."""
    before, after = np.asarray(recorded), np.asarray(now)
    if before.shape != after.shape:
        return f"shape {before.shape} in the store, {after.shape} now"
    is_equal = before == after
    if before.dtype.kind in "fc" and after.dtype.kind in "fc":
        is_equal = is_equal | (np.isnan(before) & np.isnan(after))
    where = np.argwhere(~np.asarray(is_equal))
    if not len(where):
        is_other = before.dtype != after.dtype
        return f"{before.dtype} in the store, {after.dtype} now" if is_other else ""
    first = tuple(map(int, where[0]))
    at = f"first at [{', '.join(map(str, first))}]: " if first else ""
    return (
        f"{len(where)} of {before.size} values differ, {at}"
        f"{_shown_item(before[first])} -> {_shown_item(after[first])}"
    )


def _shown_item(item: Any) -> str:
    return repr(item.item() if isinstance(item, np.generic) else item)


def _same(a: Any, b: Any) -> bool:
    # ArviZ 0 turns a single number into a vector.
    x, y = np.squeeze(np.asarray(a)), np.squeeze(np.asarray(b))
    if x.dtype.kind in "fc" and y.dtype.kind in "fc":
        return np.array_equal(x, y, equal_nan=True)
    # Files keep texts, dates and labels of several levels in other dtypes.
    return np.array_equal(x, y) or [str(v) for v in x.ravel()] == [str(v) for v in y.ravel()]


def _shown(values: Any) -> str:
    items = np.asarray(values).ravel()
    return ", ".join(map(str, items[:4])) + (" ..." if len(items) > 4 else "")


@compiling()
def compiled_numbers(model: Any, names: Sequence[str]) -> tuple[Callable[..., Any], ...]:
    """Return two functions of a point: the log-probability, and the variables with names."""
    known = dict(zip([rv.name for rv in model.unobserved_RVs], model.unobserved_RVs, strict=True))
    variables = model.replace_rvs_by_values([known[name] for name in names if name in known])
    logp = model.compile_logp()
    compute = model.compile_fn(variables, inputs=model.value_vars, on_unused_input="ignore")
    shown = [name for name in names if name in known]

    def values(point: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return list(zip(shown, compute(point), strict=True))

    return lambda point: float(logp(point)), values


@compiling()
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
    """Return the log-probability at a point, by the function that gives the stat `model_logp`.

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
