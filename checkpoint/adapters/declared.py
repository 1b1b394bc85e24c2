"""The adapter for step methods that declare their state, as PyMC's own do."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from checkpoint.adapters.base import Adapter, AdapterSchema
from checkpoint.adapters.fields import ArrayField, Field, ScalarField, set_attribute
from checkpoint.adapters.generator_field import GeneratorField
from checkpoint.adapters.growing import GrowingField
from checkpoint.adapters.mass_matrix import DiagonalField
from checkpoint.adapters.scalar_types import TYPE_CODES
from checkpoint.format.rows import RowSource, Values

__all__ = ["StepAdapter"]


class StepAdapter(Adapter):
    """Keeps each field of a step method's state in columns.

    `take` runs after every draw, so it is short: it reads all numbers in one call and keeps them
    as one tuple, it copies arrays into their rows, and it calls only the other fields one by one.
    """

    def __init__(self, schema: AdapterSchema) -> None:
        self.schema = schema
        self._fields = [field.bound(schema.constants) for field in schema.fields]
        self._scalars = [f for f in schema.fields if isinstance(f, ScalarField)]
        self._arrays = [f for f in schema.fields if isinstance(f, ArrayField)]
        taken = (ScalarField, ArrayField, DiagonalField)
        self._others = [f for f in schema.fields if not isinstance(f, taken)]
        generators = [f for f in schema.fields if isinstance(f, GeneratorField)]
        self._fixed: list[ArrayField | GeneratorField] = [*self._arrays, *generators]
        self._get_scalars = _getter(self._scalars)
        self._get_arrays = _getter(self._arrays)

    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        self._step = step
        self._data = data = self.schema.views(data)
        prefix = self.schema.prefix
        self._targets = [data[prefix + field.columns[0].path] for field in self._arrays]
        self._taken_scalars: list[tuple[Any, ...]] = []
        self._taken: list[tuple[Field, list[Any]]] = [(field, []) for field in self._others]
        self._takers = [(taken.append, field.taker()) for field, taken in self._taken]

    def take(self, row: int) -> None:
        step = self._step
        self._taken_scalars.append(self._get_scalars(step))
        for target, value in zip(self._targets, self._get_arrays(step), strict=True):
            target[row] = value
        for append, take in self._takers:
            append(take(step))

    def settle(self, start: int, stop: int) -> None:
        if start == stop:
            return
        for fixed in self._fixed:
            fixed.check(self._step)
        # If a draw failed while it was recorded, more states were captured than there are rows.
        n = stop - start
        scalars = zip(*self._taken_scalars[:n], strict=True)
        for scalar, values in zip(self._scalars, scalars, strict=True):
            self._put(scalar, values, start, stop)
        self._taken_scalars.clear()
        for field, taken in self._taken:
            self._put(field, taken[:n], start, stop)
            taken.clear()

    def _put(self, field: Field, taken: Any, start: int, stop: int) -> None:
        for column, values in zip(field.columns, field.settle(taken), strict=True):
            self._data[self.schema.prefix + column.path][start:stop] = values
        if isinstance(field, ScalarField | GrowingField) and field.type_idx is not None:
            codes = self._data[self.schema.prefix + TYPE_CODES]
            codes[start:stop, field.type_idx] = field.type_codes(taken)

    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        rows = self.schema.unpacked(rows)
        for field in self._fields:
            field.restore(step, rows, self.schema.prefix, draw_idx)
        return step

    def restore_whole(self, step: Any, rows: RowSource, draw_idx: int) -> None:
        """Restore `step` with complete lists, also where sampling needs only their length."""
        rows = self.schema.unpacked(rows)
        for field in self._fields:
            if isinstance(field, GrowingField):
                items = field.read(rows, self.schema.prefix, draw_idx)
                set_attribute(step, field.path, items)
            else:
                field.restore(step, rows, self.schema.prefix, draw_idx)

    def read(self, rows: RowSource, draw_idx: int) -> dict[str, Any]:
        """Return the state after a recorded draw as nested dicts, constants included."""
        rows = self.schema.unpacked(rows)
        state: dict[str, Any] = {}
        for path, value in self.schema.constants.items():
            _put_nested(state, path, value)
        for field in self._fields:
            for path, value in field.parts(rows, self.schema.prefix, draw_idx).items():
                _put_nested(state, path, value)
        return state


def _getter(fields: list[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads the attributes of all fields as a tuple."""
    paths = [field.path for field in fields]
    if not paths:
        return lambda step: ()
    if len(paths) == 1:
        get = attrgetter(paths[0])
        return lambda step: (get(step),)
    return attrgetter(*paths)


def _put_nested(state: dict[str, Any], path: str, value: Any) -> None:
    *owners, name = path.split(".")
    for owner in owners:
        inner = state.setdefault(owner, {})
        if not isinstance(inner, dict):  # a constant: the name of the owner's class
            inner = state[owner] = {"class": inner}
        state = inner
    state[name] = value
