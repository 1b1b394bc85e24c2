"""Find randomness inside a model: numbers that are drawn anew whenever a variable is computed.

PyMC gives the generators of such draws a new seed whenever it compiles, so no `random_seed` reaches
them. They are searched in the compiled functions, from which PyTensor has removed those that no
output depends on. The graph of the model gives the names for the message.
"""

from collections.abc import Iterator
from typing import Any

from pymc.distributions.simulator import SimulatorRV
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.random.type import RandomType

from checkpoint._pymc.exactness import compiling
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import compiled_functions

__all__ = ["randomness"]

_N_LOOKS = 5


def randomness(preparation: Preparation) -> list[str]:
    """Return a line for each variable of a model that draws random numbers of its own.

    The list is empty if neither a recorded variable nor the log-probability depends on such a
    draw. A simulator that gives the same log-probability again counts as not random.
    """
    recorder: Any = preparation.recorder
    found = _random_outputs(recorder.fn)
    lines = [
        f"{name} depends on {_named(preparation.model, preparation.model[name])}"
        for name in (recorder.varnames[i] for i in found)
    ]
    if any(_random_outputs(function) for function in compiled_functions(preparation.step)):
        lines += _of_logp(preparation)
    return lines


def _random_outputs(function: Any) -> list[int]:
    """Return the outputs of a compiled function that depend on a generator of its own."""
    function = getattr(function, "f", function)
    graph = function.maker.fgraph
    n_outputs = len(graph.outputs) - len(graph.update_mapping or {})
    return [
        i
        for i, output in enumerate(graph.outputs[:n_outputs])
        if any(_is_generator(variable) for variable in _ancestors(output, frozenset()))
    ]


def _is_generator(variable: Variable[Any, Any]) -> bool:
    """Return whether a variable is a generator that advances; a constant does not."""
    is_root = variable.owner is None and not isinstance(variable, Constant)
    return is_root and isinstance(variable.type, RandomType)


def _of_logp(preparation: Preparation) -> list[str]:
    """Return a line for each term of the log-probability that draws random numbers."""
    model = preparation.model
    lines = [
        f"potential {term.name} depends on {_named(model, term)}"
        for term in model.potentials
        if _draws(model, term)
    ]
    data = {rv.name: model.rvs_to_values[rv] for rv in model.observed_RVs}
    lines += [
        f"the observed data of {name} depends on {_named(model, value)}"
        for name, value in data.items()
        if _draws(model, value)
    ]
    simulators = [rv.name for rv in model.basic_RVs if isinstance(rv.owner.op, SimulatorRV)]
    if lines or not simulators:
        return lines or ["its log-probability depends on a random variable that is not the model's"]
    values = _logps(preparation)
    if len(set(values)) == 1:
        return []
    names, other = ", ".join(simulators), next(value for value in values if value != values[0])
    shown = f"{values[0]:.6g} and then {other:.6g}"
    return [f"simulator {names} draws anew: the log-probability of one point is {shown}"]


@compiling()
def _logps(preparation: Preparation) -> list[float]:
    function = preparation.model.compile_logp()
    return [float(function(preparation.initial_points[0])) for _ in range(_N_LOOKS)]


def _draws(model: Any, variable: Variable[Any, Any]) -> bool:
    return any(True for _ in _random_variables(model, variable))


def _named(model: Any, variable: Variable[Any, Any]) -> str:
    for inner in _random_variables(model, variable):
        kind = type(inner.owner.op).__name__.removesuffix("RV") if inner.owner is not None else ""
        if "Minibatch" in kind:
            return "a minibatch"
        name = f" {inner.name}" if inner.name else ""
        return f"a random variable{name} ({kind}) that is not one of the model's"
    return "a random variable that is not one of the model's"


def _random_variables(model: Any, variable: Variable[Any, Any]) -> Iterator[Variable[Any, Any]]:
    """Yield the random variables that a variable depends on and that are not the model's."""
    for inner in _ancestors(variable, frozenset(model.basic_RVs)):
        inputs = inner.owner.inputs if inner.owner is not None else []
        generators = [item for item in inputs if isinstance(item.type, RandomType)]
        if not isinstance(inner.type, RandomType) and any(
            _is_generator(root) for item in generators for root in _ancestors(item, frozenset())
        ):
            yield inner


def _ancestors(
    variable: Variable[Any, Any], stop: frozenset[Variable[Any, Any]]
) -> Iterator[Variable[Any, Any]]:
    """Yield a variable and its ancestors, except those in `stop` and beyond."""
    seen: set[Variable[Any, Any]] = set()
    waiting = [variable]
    while waiting:
        current = waiting.pop()
        if current in seen or (current in stop and current is not variable):
            continue
        seen.add(current)
        yield current
        if current.owner is not None:
            waiting.extend(current.owner.inputs)
