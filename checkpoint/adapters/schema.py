"""From a step method to the schema of its state."""

from dataclasses import replace
from typing import Any

import numpy as np

from checkpoint import plain
from checkpoint._pymc.steps import StateItem, declares_state, state_items, step_name
from checkpoint.adapters.base import Adapter, AdapterSchema, order_of
from checkpoint.adapters.fields import (
    ArrayField,
    EstimatorField,
    Field,
    NumbersField,
    ScalarField,
    TextField,
    VaryingField,
)
from checkpoint.adapters.generator_field import GeneratorField
from checkpoint.adapters.growing import GrowingField
from checkpoint.adapters.pickled import INITIAL, PickledAdapter, pickled
from checkpoint.adapters.steps import StepAdapter
from checkpoint.errors import UnsupportedStepError

__all__ = ["check_declared", "describe", "make_adapter", "with_lists"]


def describe(step: Any, fresh: Any, step_idx: int, allow_pickle: bool) -> AdapterSchema:
    """Return the schema of a step method.

    Parameters
    ----------
    step, fresh : step method
        After a step, and before it.
    step_idx : int
        Its place in the compound.
    allow_pickle : bool
        Whether a step method that declares no state may be pickled.

    Raises
    ------
    UnsupportedStepError
        If it declares no state and must not be pickled, or has a field that cannot be stored.
    """
    check_declared(step, allow_pickle)
    name = step_name(step)
    if not declares_state(step):
        return AdapterSchema(step_idx, name, (), {INITIAL: pickled(fresh)}, is_pickled=True)
    fields, constants = [], {}
    for item in state_items(step):
        if item.role == "constant":
            constants[item.path] = item.value
        else:
            fields.append(_field(item, name))
    return AdapterSchema(step_idx, name, tuple(fields), constants)


def check_declared(step: Any, allow_pickle: bool) -> None:
    """Hold that a step method declares its state, or may be pickled.

    Raises
    ------
    UnsupportedStepError
        If not.
    """
    if not declares_state(step) and not allow_pickle:
        raise UnsupportedStepError(
            f"The step method {step_name(step)} does not declare its sampler state (it has no "
            "`_state_class`), so its draws could not be resumed exactly. Choose another step "
            "method for these variables, ask its authors to declare a state, or pass "
            "allow_pickle=True to keep its pickled object at each commit. Loading that runs code "
            "from the store."
        )


def with_lists(schema: AdapterSchema) -> AdapterSchema:
    """Return a schema whose adapter leaves lists whole that sampling only appends to."""
    fields = tuple(
        replace(item, never_read=False) if isinstance(item, GrowingField) else item
        for item in schema.fields
    )
    return replace(schema, fields=fields)


def make_adapter(schema: AdapterSchema) -> Adapter:
    """Return the adapter for a schema."""
    return PickledAdapter(schema) if schema.is_pickled else StepAdapter(schema)


def _field(item: StateItem, step: str) -> Field:
    value, owner = item.value, item.owner
    if item.role == "estimator":
        return EstimatorField(item.path, int(owner._n), float(owner._alpha))
    if item.role == "varying":
        return VaryingField(item.path, value.dtype.str, int(owner.accepted_sum.size))
    if item.role == "numbers":
        return NumbersField(item.path, np.array(value, dtype="<i8").shape)
    if item.role.startswith("growing"):
        dtype, shape = _item_of(item)
        return GrowingField(item.path, dtype, shape, item.role.endswith("never read"))
    if isinstance(value, np.random.Generator):
        return GeneratorField.of(item.path, value)
    if isinstance(value, bool | np.bool_):
        return ScalarField(item.path, "|b1", "bool" if isinstance(value, bool) else "bool_")
    if type(value) is int and abs(value) < 1 << 62:
        return ScalarField(item.path, "<i8", "int")
    if type(value) is float:
        return ScalarField(item.path, "<f8", "float")
    if isinstance(value, np.number):
        return ScalarField(item.path, value.dtype.str, value.dtype.name)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.size:
        return ArrayField(item.path, value.dtype.str, value.shape, order_of(value))
    try:
        plain.dumps(value)
    except TypeError as error:
        raise UnsupportedStepError(
            f"The field {item.path!r} of the sampler state of {step} cannot be stored: {error}. "
            "Expected numbers, arrays, generators, strings, None, or lists and dicts of these."
        ) from None
    return TextField(item.path)


def _item_of(item: StateItem) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of what a growing list holds."""
    items: Any = item.value
    if items:
        first = np.asarray(items[-1])
        return first.dtype.str, first.shape
    owner: Any = item.owner
    if item.path.endswith("_mass_trace"):
        return "<f8", (int(owner._n),)
    return "<f8", ()
