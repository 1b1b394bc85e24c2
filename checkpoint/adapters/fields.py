"""Fields of a step method's state. Each defines its columns, its capture and its restoration.

A field is *taken* (captured) after each draw, as cheaply as possible, and *settled* (written into
rows) when the rows are committed. The path of a field is that of the attribute, dots included.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar, Literal

import numpy as np

from checkpoint.adapters.objects import CLASSES
from checkpoint.adapters.scalar_types import TYPE_CODES, as_type, codes_of, exact_column
from checkpoint.errors import UnsupportedStepError
from checkpoint.format import plain
from checkpoint.format.arrays import TEXT
from checkpoint.format.rows import Column, RowSource, Values

__all__ = [
    "ArrayField",
    "EstimatorField",
    "Field",
    "NumbersField",
    "ScalarField",
    "TextField",
    "VaryingField",
    "memory_order",
    "set_attribute",
]

_SCALAR_TYPES = {"int": int, "float": float, "bool": bool}


def set_attribute(step: Any, path: str, value: Any) -> None:
    """Set an attribute by its dotted path."""
    owner_path, _, name = path.rpartition(".")
    owner = attrgetter(owner_path)(step) if owner_path else step
    setattr(owner, name, value)


@dataclass(frozen=True)
class Field(ABC):
    """One field of a step method's state."""

    kind: ClassVar[str]

    path: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **{item.name: getattr(self, item.name) for item in fields(self)}}

    def column(self, name: str, dtype: str, shape: Sequence[int] = ()) -> Column:
        """Return a column of this field; `name` is empty if the field has only one."""
        path = self.path.replace(".", "/")
        return Column(f"{path}/{name}" if name else path, dtype, tuple(shape))

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Columns, with paths relative to the step's group."""

    @cached_property
    def get(self) -> Callable[[Any], Any]:
        """Function that reads the attribute of a step method."""
        return attrgetter(self.path)

    def taker(self) -> Callable[[Any], Any]:
        """Return a function that captures the field of one step method after each draw."""
        return self.take

    def take(self, step: Any) -> Any:
        """Return the field's current value, in a form that later draws do not change."""
        return self.get(step)

    @abstractmethod
    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        """Return the rows of each column for the captured values."""

    @abstractmethod
    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        """Return the value recorded at a draw."""

    def bound(self, constants: Mapping[str, Any]) -> "Field":
        """Return the field with those constants of its step method that it needs."""
        return self

    def parts(self, rows: RowSource, prefix: str, draw_idx: int) -> Mapping[str, Any]:
        """Return the values recorded at a draw, by attribute path; most fields have just one."""
        return {self.path: self.read(rows, prefix, draw_idx)}

    def restore(self, step: Any, rows: RowSource, prefix: str, draw_idx: int) -> None:
        """Set the field of `step` to the value recorded at a draw."""
        for path, value in self.parts(rows, prefix, draw_idx).items():
            set_attribute(step, path, value)

    def _changed(self, found: object) -> UnsupportedStepError:
        return UnsupportedStepError(
            f"The field {self.path!r} of the sampler state became {found} during sampling; "
            f"expected {self.kind} as after the first draw. Keep the type and shape of a field, "
            "or make it a list, which is stored as text."
        )


@dataclass(frozen=True)
class ScalarField(Field):
    """A number or a truth value.

    Attributes
    ----------
    type_idx : int or None
        Index of this field among the type codes of the step method. None in stores that keep no
        type for each draw; there all values have the one `type`.
    """

    kind = "scalar"
    dtype: str
    type: str
    type_idx: int | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", self.dtype),)

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        if self.type_idx is not None:
            column = exact_column(taken, self.dtype)
            if column is None:
                raise self._changed(f"{type(taken[-1]).__name__} {taken[-1]!s:.40}")
            return (column,)
        values = np.asarray(taken)
        if values.ndim != 1 or not np.can_cast(values.dtype, self.dtype, "same_kind"):
            raise self._changed(f"{values.dtype} {values.shape[1:]}")
        return (values.astype(self.dtype, copy=False),)

    def type_codes(self, taken: Sequence[Any]) -> Values:
        """Return the type codes of the captured values."""
        codes = codes_of(taken)
        if codes is None:
            raise self._changed(f"{type(taken[-1]).__name__} {taken[-1]!s:.40}")
        return codes

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        value = rows.value(prefix + self.columns[0].path, draw_idx)
        if self.type_idx is not None:
            codes = rows.value(prefix + TYPE_CODES, draw_idx)
            return as_type(value, int(codes[self.type_idx]))
        return _SCALAR_TYPES.get(self.type, np.dtype(self.dtype).type)(value)


@dataclass(frozen=True)
class ArrayField(Field):
    """An array of fixed shape. Its rows are copied when they are taken, not when settled.

    `order` is its memory order, "C" or "F". Linear algebra on an array in the other order may use
    another algorithm, and differ in the last bits.
    """

    kind = "array"
    dtype: str
    shape: tuple[int, ...]
    order: str = "C"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", self.dtype, self.shape),)

    def check(self, step: Any) -> None:
        """Check the array's shape and dtype; a row would accept any shape that broadcasts."""
        value = np.asarray(super().take(step))
        if value.shape != self.shape or value.dtype != self.dtype:
            raise self._changed(f"{value.dtype} {value.shape}")

    def take(self, step: Any) -> Any:
        return np.array(super().take(step), dtype=self.dtype)

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        return (np.array(taken, dtype=self.dtype).reshape(len(taken), *self.shape),)

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        value = rows.value(prefix + self.columns[0].path, draw_idx)
        return np.array(value, dtype=self.dtype, order=memory_order(self.order))


def memory_order(order: str) -> Literal["C", "F"]:
    """Return a memory order read from a store, typed as numpy expects it."""
    return "F" if order == "F" else "C"


@dataclass(frozen=True)
class VaryingField(Field):
    """A vector of varying length, up to a maximum; rows hold it padded with zeros.

    The scaling of an element-wise Metropolis is one number until it is first tuned.
    """

    kind = "varying"
    dtype: str
    n_max: int

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("length", "<i8"), self.column("values", self.dtype, (self.n_max,)))

    def take(self, step: Any) -> Any:
        return np.array(self.get(step))

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        values = np.zeros((len(taken), self.n_max), dtype=self.dtype)
        for i, vector in enumerate(taken):
            if vector.ndim != 1 or len(vector) > self.n_max or vector.dtype != self.dtype:
                raise self._changed(f"an array of {vector.dtype}, of shape {vector.shape}")
            values[i, : len(vector)] = vector
        return np.array([len(vector) for vector in taken]), values

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        length, values = (rows.value(prefix + column.path, draw_idx) for column in self.columns)
        return np.array(values[: int(length)])


@dataclass(frozen=True)
class NumbersField(Field):
    """A list of fixed length, of integers or of equally long tuples of integers."""

    kind = "numbers"
    shape: tuple[int, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", "<i8", self.shape),)

    def take(self, step: Any) -> Any:
        return np.array(super().take(step), dtype="<i8")

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        return (np.array(taken).reshape(len(taken), *self.shape),)

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        values = np.asarray(rows.value(prefix + self.columns[0].path, draw_idx)).tolist()
        return values if len(self.shape) == 1 else [tuple(item) for item in values]


@dataclass(frozen=True)
class EstimatorField(Field):
    """PyMC's `_ExpWeightedVariance`, or None before the adaptation has begun."""

    kind = "estimator"
    n: int
    alpha: float
    dtype: str = "<f8"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            self.column("is_set", "|b1"),
            self.column("_mean", self.dtype, (self.n,)),
            self.column("_variance", self.dtype, (self.n,)),
        )

    def take(self, step: Any) -> Any:
        estimator = super().take(step)
        if estimator is None:
            return None
        return estimator._mean.copy(), estimator._variance.copy()

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        zeros = np.zeros(self.n, dtype=self.dtype)
        pairs = [item or (zeros, zeros) for item in taken]
        if any(vector.dtype != self.dtype for pair in pairs for vector in pair):
            raise self._changed(f"one of {pairs[-1][0].dtype} and {pairs[-1][1].dtype}")
        means, variances = np.array(pairs, dtype=self.dtype).swapaxes(0, 1)
        return np.array([item is not None for item in taken]), means, variances

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        is_set, mean, variance = (
            rows.value(prefix + column.path, draw_idx) for column in self.columns
        )
        if not is_set:
            return None
        return {"_alpha": self.alpha, "_mean": np.array(mean), "_variance": np.array(variance)}

    def restore(self, step: Any, rows: RowSource, prefix: str, draw_idx: int) -> None:
        from checkpoint._pymc.steps import make_estimator

        state = self.read(rows, prefix, draw_idx)
        set_attribute(step, self.path, None if state is None else make_estimator(self.n, state))


@dataclass(frozen=True)
class TextField(Field):
    """Anything else that has a plain form: None, strings, lists, dicts, exceptions."""

    kind = "text"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", TEXT),)

    def take(self, step: Any) -> Any:
        try:
            return plain.dumps(super().take(step))
        except TypeError as error:
            raise self._changed(f"something else: {error}") from None

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        values = np.empty(len(taken), dtype=object)
        values[:] = taken
        return (values,)

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        text = rows.value(prefix + self.columns[0].path, draw_idx)
        return plain.loads(text, CLASSES) if text else None
