"""Fields of a step method's state: each knows its columns, how to take and how to restore it.

A field that changes is *taken* after each draw, as cheaply as can be, and *settled* into rows
when they are committed. The path of a field is the path of the attribute, dots included.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar, Literal

import numpy as np

from checkpoint import plain
from checkpoint.arrays import TEXT
from checkpoint.errors import UnsupportedStepError
from checkpoint.rows import Column, RowSource, Values

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
        """Return a column of this field; `name` is empty where there is just one."""
        path = self.path.replace(".", "/")
        return Column(f"{path}/{name}" if name else path, dtype, tuple(shape))

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Columns, with paths relative to the step's group."""

    @cached_property
    def get(self) -> Callable[[Any], Any]:
        """Read the attribute of a step method."""
        return attrgetter(self.path)

    def taker(self) -> Callable[[Any], Any]:
        """Return what takes the field of one step method, draw after draw."""
        return self.take

    def take(self, step: Any) -> Any:
        """Return the field's value now, as something that later draws do not change."""
        return self.get(step)

    @abstractmethod
    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        """Return the rows of each column from what was taken."""

    @abstractmethod
    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        """Return the value recorded at a draw."""

    def restore(self, step: Any, rows: RowSource, prefix: str, draw_idx: int) -> None:
        """Set the field of `step` to what was recorded at a draw."""
        set_attribute(step, self.path, self.read(rows, prefix, draw_idx))

    def _changed(self, found: object) -> UnsupportedStepError:
        return UnsupportedStepError(
            f"The field {self.path!r} of the sampler state became {found} during sampling; "
            f"expected {self.kind} as after the first draw. Keep the type and shape of a field, "
            "or make it a list, which is stored as text."
        )


@dataclass(frozen=True)
class ScalarField(Field):
    """A number or a truth value."""

    kind = "scalar"
    dtype: str
    type: str

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", self.dtype),)

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        values = np.asarray(taken)
        if values.ndim != 1 or not np.can_cast(values.dtype, self.dtype, "same_kind"):
            raise self._changed(f"{values.dtype} {values.shape[1:]}")
        return (values.astype(self.dtype, copy=False),)

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        value = rows.value(prefix + self.columns[0].path, draw_idx)
        return _SCALAR_TYPES.get(self.type, np.dtype(self.dtype).type)(value)


@dataclass(frozen=True)
class ArrayField(Field):
    """An array of fixed shape. Its rows are copied as they are taken, not settled.

    `order` is that of its memory, "C" or "F": linear algebra may take another way through the
    other, and end in other last bits.
    """

    kind = "array"
    dtype: str
    shape: tuple[int, ...]
    order: str = "C"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("", self.dtype, self.shape),)

    def check(self, step: Any) -> None:
        """Hold that the array still has its shape; a row would take any that broadcasts."""
        value = np.asarray(super().take(step))
        if value.shape != self.shape or not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise self._changed(f"{value.dtype} {value.shape}")

    def take(self, step: Any) -> Any:
        return np.array(super().take(step), dtype=self.dtype)

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        return (np.array(taken, dtype=self.dtype).reshape(len(taken), *self.shape),)

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        value = rows.value(prefix + self.columns[0].path, draw_idx)
        return np.array(value, dtype=self.dtype, order=memory_order(self.order))


def memory_order(order: str) -> Literal["C", "F"]:
    """Return an order read from a store as numpy takes it."""
    return "F" if order == "F" else "C"


@dataclass(frozen=True)
class VaryingField(Field):
    """A vector whose length changes, up to a largest; rows hold it filled up with zeros.

    The scaling of an element-wise Metropolis is one number until it is first tuned.
    """

    kind = "varying"
    dtype: str
    n_max: int

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("length", "<i8"), self.column("values", self.dtype, (self.n_max,)))

    def take(self, step: Any) -> Any:
        return np.array(self.get(step), dtype=self.dtype)

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        values = np.zeros((len(taken), self.n_max), dtype=self.dtype)
        for i, vector in enumerate(taken):
            if vector.ndim != 1 or len(vector) > self.n_max:
                raise self._changed(f"an array of shape {vector.shape}")
            values[i, : len(vector)] = vector
        return np.array([len(vector) for vector in taken]), values

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        length, values = (rows.value(prefix + column.path, draw_idx) for column in self.columns)
        return np.array(values[: int(length)])


@dataclass(frozen=True)
class NumbersField(Field):
    """A list of integers, or of equally long tuples of them, of fixed length."""

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

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            self.column("is_set", "|b1"),
            self.column("_mean", "<f8", (self.n,)),
            self.column("_variance", "<f8", (self.n,)),
        )

    def take(self, step: Any) -> Any:
        estimator = super().take(step)
        if estimator is None:
            return None
        return estimator._mean.copy(), estimator._variance.copy()

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        zeros = np.zeros(self.n)
        pairs = [item or (zeros, zeros) for item in taken]
        means, variances = np.array(pairs, dtype="<f8").swapaxes(0, 1)
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
        from checkpoint._pymc.steps import plain_classes

        text = rows.value(prefix + self.columns[0].path, draw_idx)
        return plain.loads(text, plain_classes()) if text else None
