"""Step methods of PyMC: list the fields of their state, start a chain, make copies.

PyMC's state classes declare the state. Where they omit what the next draw needs, or declare a
field wrongly, the tables here correct them.
"""

import dataclasses
import enum
import io
import pickle
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import cloudpickle
import numpy as np
import pymc as pm
from pymc.stats.convergence import SamplerWarning, WarningType
from pymc.step_methods.arraystep import PopulationArrayStepShared
from pymc.step_methods.compound import CompoundStep
from pymc.step_methods.hmc import quadpotential
from pymc.step_methods.hmc.base_hmc import BaseHMC, DivergenceInfo
from pymc.step_methods.hmc.integration import CpuLeapfrogIntegrator, IntegrationError, State
from pymc.step_methods.state import DataClassState, WithSamplingState
from pymc.step_methods.step_sizes import DualAverageAdaptation
from pytensor.compile import Function
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op

from checkpoint.errors import ExactnessWarning, warn_caller
from checkpoint.format.generators import generator_from_json, generator_to_json

__all__ = [
    "Role",
    "StateItem",
    "Step",
    "compile_again",
    "compiled_functions",
    "copies_of",
    "copy_generator",
    "copy_step",
    "copy_step_shallowly",
    "declares_state",
    "flatten",
    "is_population",
    "link_population",
    "make_estimator",
    "plain_classes",
    "start_chain",
    "state_items",
    "step_name",
    "uses_fastmath",
]

Step = Any

# What the next draw needs and the state class lacks: (class, attribute).
_UNDECLARED = (
    (BaseHMC, "divergences"),  # the counter behind the stat of that name
)

# Fixed for the run, and undeclared: (exact class, attributes).
_UNDECLARED_CONSTANTS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (quadpotential.QuadPotentialDiag, ("dtype", "s", "inv_s", "v")),
    (quadpotential.QuadPotentialFull, ("dtype", "_cov", "_chol", "_n")),
    (quadpotential.QuadPotentialFullInv, ("dtype", "L")),
    (quadpotential.QuadPotentialDiagAdaptExp, ("_use_grads",)),
    (pm.DEMetropolisZ, ("tune_drop_fraction",)),
    (pm.CategoricalGibbsMetropolis, ("astep",)),
)

# Declared as changing, but set only by the constructor.
_IN_FACT_CONSTANT: tuple[tuple[type, frozenset[str]], ...] = (
    (BaseHMC, frozenset({"adapt_step_size", "Emax", "target_accept"})),
    (DualAverageAdaptation, frozenset({"_initial_step", "_target", "_k", "_t0", "_gamma"})),
    (quadpotential.QuadPotentialDiagAdaptExp, frozenset({"_alpha", "_stop_adaptation"})),
    (pm.Metropolis, frozenset({"tune_interval"})),
    (pm.BinaryMetropolis, frozenset({"scaling", "tune_interval"})),
    (pm.BinaryGibbsMetropolis, frozenset({"transit_p", "shuffle_dims"})),
    (pm.CategoricalGibbsMetropolis, frozenset({"shuffle_dims"})),
    (pm.DEMetropolis, frozenset({"tune_interval"})),
    (pm.DEMetropolisZ, frozenset({"tune_interval", "tune_target"})),
    (pm.Slice, frozenset({"max_steps"})),
)

_GROWING_NEVER_READ = {"_tuned_stats", "_mass_trace"}
_GROWING = {"_history"}
_NUMBERS = {"order", "dimcats"}
_ESTIMATORS = {"_variance_estimator", "_variance_estimator_grad"}


class Role(enum.Enum):
    """How a field of a state changes from draw to draw, which decides how it is stored."""

    CONSTANT = enum.auto()
    VALUE = enum.auto()
    GROWING = enum.auto()
    """A list to which draws append."""
    GROWING_NEVER_READ = enum.auto()
    """A list to which draws append, and of which no draw reads more than the length."""
    NUMBERS = enum.auto()
    """A list of fixed length, of integers or of tuples of them."""
    ESTIMATOR = enum.auto()
    """An object of PyMC's that estimates variances, or None."""
    VARYING = enum.auto()
    """A number that may become an array."""


@dataclasses.dataclass(frozen=True)
class StateItem:
    """One field of a step method's state, found by walking its state class.

    Attributes
    ----------
    path : str
        Dotted path of the attribute.
    value : object
    role : Role
    owner : object
        The object that has the attribute.
    """

    path: str
    value: Any
    role: Role
    owner: Any


def flatten(step: Step) -> list[Step]:
    """Return the step methods of a possibly nested compound, in the order they step."""
    if isinstance(step, CompoundStep):
        return [inner for method in step.methods for inner in flatten(method)]
    return [step]


def step_name(step: Step) -> str:
    """Return the class of a step method and its variables, for messages."""
    return f"{type(step).__name__}({', '.join(str(v.name) for v in step.vars)})"


def declares_state(step: Step) -> bool:
    """Return whether a step method declares its state."""
    state_class = getattr(type(step), "_state_class", DataClassState)
    return bool(dataclasses.fields(state_class))


def state_items(step: Step) -> Iterator[StateItem]:
    """Yield every field of a step method's state."""
    for cls, name in _UNDECLARED:
        if isinstance(step, cls):
            yield StateItem(name, getattr(step, name), Role.VALUE, step)
    proposal = getattr(step, "proposal_dist", None)
    if proposal is not None:
        yield StateItem("proposal_dist", type(proposal).__name__, Role.CONSTANT, step)
        for name in ("s", "chol"):
            if hasattr(proposal, name):
                value = np.asarray(getattr(proposal, name))
                yield StateItem(f"proposal_dist.{name}", value, Role.CONSTANT, proposal)
    yield from _walk(step, "")


def _walk(owner: Any, prefix: str) -> Iterator[StateItem]:
    for cls, names in _UNDECLARED_CONSTANTS:
        if type(owner) is cls:
            for name in names:
                value = getattr(owner, name)
                if callable(value) and hasattr(value, "__name__"):
                    value = value.__name__
                yield StateItem(prefix + name, value, Role.CONSTANT, owner)
    for field in dataclasses.fields(owner._state_class):
        if field.metadata.get("tensor_name"):
            continue
        value = getattr(owner, field.name, None)
        path = prefix + field.name
        if field.name == "_mass_trace" and not owner._store_mass_matrix_trace:
            continue  # stays empty
        if field.metadata.get("frozen") or _is_in_fact_constant(owner, field.name):
            yield StateItem(path, value, Role.CONSTANT, owner)
        elif field.name in _ESTIMATORS and isinstance(
            owner, quadpotential.QuadPotentialDiagAdaptExp
        ):
            yield StateItem(path, value, Role.ESTIMATOR, owner)
        elif isinstance(owner, pm.Metropolis) and field.name == "scaling":
            yield StateItem(path, value, Role.VARYING, owner)
        elif isinstance(value, WithSamplingState):
            yield from _walk(value, f"{path}.")
        else:
            yield StateItem(path, value, _role(field, value), owner)


def _is_in_fact_constant(owner: Any, name: str) -> bool:
    return any(isinstance(owner, cls) and name in names for cls, names in _IN_FACT_CONSTANT)


def _role(field: dataclasses.Field[Any], value: Any) -> Role:
    if isinstance(value, list):
        if field.name in _GROWING_NEVER_READ:
            return Role.GROWING_NEVER_READ
        if field.name in _GROWING or field.metadata.get("append_only"):
            return Role.GROWING
        if field.name in _NUMBERS and value:
            return Role.NUMBERS
    return Role.VALUE


def make_estimator(n: int, state: dict[str, Any]) -> Any:
    """Return the exponentially weighted variance that `jitter+adapt_diag_grad` adapts with."""
    return quadpotential._ExpWeightedVariance(
        n, init_mean=state["_mean"], init_var=state["_variance"], alpha=state["_alpha"]
    )


def plain_classes() -> dict[str, type]:
    """Return PyMC's classes that may be rebuilt from plain text."""
    from numpy.linalg import LinAlgError
    from pymc.blocking import RaveledVars

    known = (SamplerWarning, WarningType, DivergenceInfo, State, IntegrationError, RaveledVars)
    return {cls.__name__: cls for cls in (*known, LinAlgError)}


def start_chain(
    step: Step, rng: np.random.Generator, tune: int, draws: int, sequential: bool
) -> None:
    """Prepare a step method for the first draw of a chain, as PyMC's drivers do.

    PyMC's driver for one process (`sequential`) resets the tuning, and its driver for several does
    not. All chains of a run start in the way that the run began with.
    """
    if hasattr(step, "setup_chain"):  # PyMC 6
        step.setup_chain(rng, tune, draws)
    else:
        step.set_rng(rng)
    if not sequential:
        return
    step.tune = bool(tune)
    if hasattr(step, "reset_tuning"):
        step.reset_tuning()
    if hasattr(step, "iter_count"):
        step.iter_count = 0


def is_population(step: Step) -> bool:
    """Return whether chains must step together, as DEMetropolis needs."""
    methods = step.methods if isinstance(step, CompoundStep) else [step]
    return any(isinstance(method, PopulationArrayStepShared) for method in methods)


def link_population(step: Step, population: list[Any], chain: int) -> None:
    """Let the population step methods of one chain see the points of all."""
    for method in step.methods if isinstance(step, CompoundStep) else [step]:
        if isinstance(method, PopulationArrayStepShared):
            method.link_population(population, chain)


def copy_generator(generator: np.random.Generator) -> np.random.Generator:
    """Copy a Generator with its seed sequence, which `copy` would drop."""
    return generator_from_json(generator_to_json(generator))


def copy_step(step: Step) -> Step:
    """Copy a step method; the copy shares the model and the compiled functions."""
    return copies_of(step)()


def copies_of(step: Step) -> Callable[[], Step]:
    """Return a function that makes copies of a step method in its current state."""
    shared: dict[int, Any] = {}
    data = dump_step(step, shared)
    return lambda: load_step(data, shared)


def copy_step_shallowly(step: Step) -> Step:
    """Copy the objects of a step method, not what they refer to."""
    if isinstance(step, CompoundStep):
        return CompoundStep([copy(method) for method in step.methods])
    return copy(step)


def dump_step(step: Step, shared: dict[int, Any]) -> bytes:
    """Pickle a step method without its model and compiled functions; `shared` collects those."""
    stream = io.BytesIO()
    _Pickler(stream, shared).dump(step)
    return stream.getvalue()


def load_step(data: bytes, shared: dict[int, Any]) -> Step:
    """Return the step method that `dump_step` pickled, around the objects in `shared`."""
    return _Unpickler(io.BytesIO(data), shared).load()


def _shared_types() -> tuple[type, ...]:
    from pymc.model.core import ValueGradFunction

    return (pm.Model, Function, Op, Variable, ValueGradFunction)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(self, stream: io.BytesIO, shared: dict[int, Any]) -> None:
        super().__init__(stream)
        self._shared = shared
        self._index = {id(value): key for key, value in shared.items()}
        self._types = _shared_types()
        self._generators: dict[int, np.random.Generator] = {}

    def persistent_id(self, value: Any) -> Any:
        # Generators go in as data: a pickle in a store must not name a function of this package.
        if isinstance(value, np.random.Generator):
            self._generators[id(value)] = value  # kept, so that its id stays its own
            return "generator", id(value), generator_to_json(value)
        if not isinstance(value, self._types):
            return None
        key = self._index.setdefault(id(value), len(self._index))
        self._shared[key] = value
        return key


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, shared: dict[int, Any]) -> None:
        super().__init__(stream)
        self._shared = shared
        self._generators: dict[int, np.random.Generator] = {}

    def persistent_load(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return self._shared[key]
        _, which, document = key
        if which not in self._generators:
            self._generators[which] = generator_from_json(document)
        return self._generators[which]


def compile_again(step: Step) -> Step:
    """Construct a step method again, without fastmath, if it was compiled with it.

    A step method passed as `step=` was compiled before `sample` could turn fastmath off.
    """
    if not uses_fastmath(step):
        return step
    if isinstance(step, CompoundStep):
        return CompoundStep([compile_again(method) for method in step.methods])
    arguments = getattr(step, "_BlockedStep__newargs", None)
    if arguments is not None:
        args, kwargs = arguments
        step = type(step)(*args, **kwargs)
    if uses_fastmath(step):
        warn_caller(
            f"The step method {step_name(step)} holds functions compiled with fastmath: a cold and "
            "a warm compile cache differ in the last bit, and a resumed run may. Make it within "
            "pytensor.config.change_flags(numba__fastmath=False).",
            ExactnessWarning,
        )
    return step


def uses_fastmath(step: Step) -> bool:
    """Return whether a step method has functions that were compiled with fastmath."""
    return any(_uses_fastmath(function) for function in compiled_functions(step))


def compiled_functions(step: Step) -> list[Any]:
    """Return the compiled functions that a step method has."""
    shared: dict[int, Any] = {}
    dump_step(step, shared)
    found = [getattr(value, "_pytensor_function", value) for value in shared.values()]
    return [value for value in found if isinstance(value, Function)]


def _uses_fastmath(function: Any) -> bool:
    compiled = getattr(function.vm, "jit_fn", None)
    return bool(getattr(compiled, "targetoptions", {}).get("fastmath"))


def relink_potential(step: Any, potential: Any) -> None:
    """Give a NUTS step method another potential."""
    step.potential = potential
    step.integrator = CpuLeapfrogIntegrator(potential, step._logp_dlogp_func)
