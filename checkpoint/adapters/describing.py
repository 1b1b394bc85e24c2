"""Describe the state of a step method by a schema, and choose its adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from math import prod
from typing import Any

import numpy as np

from checkpoint._pymc.potentials import mass_matrix_variables
from checkpoint._pymc.steps import Role, StateItem, declares_state, state_items, step_name
from checkpoint.adapters.base import Adapter, AdapterSchema, order_of
from checkpoint.adapters.declared import StepAdapter
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
from checkpoint.adapters.mass_matrix import DiagonalField
from checkpoint.adapters.pickled import INITIAL, PickledAdapter, pickled
from checkpoint.adapters.scalar_types import column_dtype
from checkpoint.errors import UnsupportedStepError
from checkpoint.format import plain
from checkpoint.format.rows import Column

__all__ = ["check_declared", "describe", "make_adapter", "with_lists"]


def describe(
    step: Any,
    fresh: Any,
    step_idx: int,
    allow_pickle: bool,
    points: Mapping[str, Column] | None = None,
) -> AdapterSchema:
    """Return the schema of a step method.

    Parameters
    ----------
    step, fresh : step method
        The step method after one step, and before it.
    step_idx : int
        Its index in the compound.
    allow_pickle : bool
        Whether a step method that declares no state may be pickled.
    points : mapping of str to Column, optional
        Columns of the value variables, if each chain adapts from its own draws only.

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
        if item.role is Role.CONSTANT:
            constants[item.path] = item.value
        else:
            fields.append(_field(item, name))
    diagonal = _diagonal(step, fresh, points or {})
    if diagonal is not None:
        # The vectors are computed again from the draws, so only the counters are stored.
        inside = f"{diagonal.path}."
        fields = [
            field
            for field in fields
            if not (isinstance(field, ArrayField) and field.path.startswith(inside))
        ]
        fields.append(diagonal)
    return AdapterSchema.packed(step_idx, name, _with_types(fields), constants)


def _diagonal(step: Any, fresh: Any, points: Mapping[str, Column]) -> DiagonalField | None:
    """Return the field of a mass matrix that the draws determine, or None if there is none."""
    names = mass_matrix_variables(step, fresh, list(points))
    columns = [points[name] for name in names if name in points]
    if not columns or len(columns) < len(names) or len({c.dtype for c in columns}) > 1:
        return None
    potential = fresh.potential
    if sum(prod(column.shape) for column in columns) != len(potential._initial_mean):
        return None
    dtypes = tuple(getattr(potential, name).dtype.str for name in ("_var", "_stds", "_inv_stds"))
    paths = tuple(column.path for column in columns)
    return DiagonalField("potential", paths, int(potential.adaptation_window), dtypes)


def _with_types(fields: Sequence[Field]) -> tuple[Field, ...]:
    """Return the fields, each number with an index among the type codes."""
    places = count()
    return tuple(
        replace(item, type_idx=next(places))
        if isinstance(item, ScalarField) or (isinstance(item, GrowingField) and not item.shape)
        else item
        for item in fields
    )


def check_declared(step: Any, allow_pickle: bool) -> None:
    """Check that a step method declares its state, or may be pickled.

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
    """Return a schema whose adapter keeps complete the lists that sampling only appends to."""
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
    if item.role is Role.ESTIMATOR:
        dtype = np.dtype(owner.dtype).str
        return EstimatorField(item.path, int(owner._n), float(owner._alpha), dtype)
    if item.role is Role.VARYING:
        return VaryingField(item.path, value.dtype.str, int(owner.accepted_sum.size))
    if item.role is Role.NUMBERS:
        return NumbersField(item.path, np.array(value, dtype="<i8").shape)
    if item.role in (Role.GROWING, Role.GROWING_NEVER_READ):
        dtype, shape = _item_of(item)
        return GrowingField(item.path, dtype, shape, item.role is Role.GROWING_NEVER_READ)
    if isinstance(value, np.random.Generator):
        return GeneratorField.of(item.path, value)
    is_huge = type(value) is int and abs(value) >= 1 << 62
    if not is_huge and (column := column_dtype(value)) is not None:
        return ScalarField(item.path, column, type(value).__name__)
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
    """Return dtype and shape of the items of a growing list."""
    items: Any = item.value
    if items:
        first = np.asarray(items[-1])
        if column := column_dtype(items[-1]):
            return column, ()
        return first.dtype.str, first.shape
    owner: Any = item.owner
    if item.path.endswith("_mass_trace"):
        return np.dtype(owner.dtype).str, (int(owner._n),)
    return "<f8", ()
