"""Models that are built once, and whose functions are compiled once, for all tests of a process.

Compiling is most of what a small run costs. What PyMC compiles for a model depends on the model
and on PyTensor's settings alone, so the tests share it. Tests with the fixture `_compiled_anew`
compile for themselves, as a user's session does.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pymc.sampling import mcmc

__all__ = ["built_once", "compiled_anew", "share"]

_SETTINGS = ("mode", "linker", "floatX", "optimizer", "cxx", "numba__fastmath")

_models: dict[Any, tuple[pm.Model, Any]] = {}
_of_models: dict[int, dict[Any, Any]] = {}
"""What was compiled, by the id of a model that is kept."""
_shared: list[pm.Model] = []  # so that no id is another's

_logp_dlogp_function = pm.Model.logp_dlogp_function
_assign_step_methods = mcmc.assign_step_methods


def built_once(build: Callable[..., pm.Model]) -> Callable[..., pm.Model]:
    """Return the same model at every call, for as long as nobody changed it.

    Inside the context of another model it is built anew, to be that one's child.
    """

    @functools.wraps(build)
    def shared(*arguments: Any) -> pm.Model:
        if pm.Model.get_context(error_if_none=False) is not None:
            return build(*arguments)
        key = build.__name__, arguments, pytensor.config.floatX
        model, looks = _models.get(key, (None, None))
        if model is None or _looks(model) != looks:
            model = build(*arguments)
            _models[key] = share(model), _looks(model)
        return model

    return shared


def share(model: pm.Model) -> pm.Model:
    """Compile the functions of a model once; it must not change."""
    _of_models[id(model)] = {}
    _shared.append(model)
    return model


@contextmanager
def compiled_anew() -> Iterator[None]:
    """Use nothing that was compiled before, within."""
    kept = _of_models.copy()
    _of_models.clear()
    try:
        yield
    finally:
        _of_models.update(kept)


def _looks(model: pm.Model) -> Any:
    """Return all that a test may have changed."""
    data = [
        (name, np.asarray(variable.get_value()).tobytes())
        for name, variable in model.named_vars.items()
        if hasattr(variable, "get_value")
    ]
    return list(model.named_vars), [str(term) for term in model.potentials], str(model.coords), data


def _settings() -> tuple[str, ...]:
    return tuple(str(getattr(pytensor.config, name, None)) for name in _SETTINGS)


def _shared_function(
    model: pm.Model, grad_vars: Any = None, *positional: Any, initial_point: Any = None, **how: Any
) -> Any:
    kept = _of_models.get(id(model))
    if kept is None or positional or any(map(callable, how.values())):
        return _logp_dlogp_function(
            model, grad_vars, *positional, initial_point=initial_point, **how
        )
    point = model.initial_point(0) if initial_point is None else initial_point
    shapes = tuple((name, np.shape(value)) for name, value in point.items())
    names = None if grad_vars is None else tuple(var.name for var in grad_vars)
    key = names, shapes, repr(sorted(how.items())), _settings()
    if key not in kept:
        kept[key] = _logp_dlogp_function(model, grad_vars, initial_point=point, **how)
    kept[key].set_extra_values(point)
    return kept[key]


def _shared_choice(model: pm.Model, step: Any = None, methods: Any = None) -> Any:
    kept = _of_models.get(id(model))
    if kept is None or step is not None:
        return _assign_step_methods(model, step, methods=methods)
    key = tuple(methods or ()), _settings()
    if key not in kept:
        kept[key] = _assign_step_methods(model, step, methods=methods)
    steps, selected = kept[key]
    return list(steps), {method: list(variables) for method, variables in selected.items()}


pm.Model.logp_dlogp_function = _shared_function
mcmc.assign_step_methods = _shared_choice
