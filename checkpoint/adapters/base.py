"""What the driver needs of an adapter, and what of it is kept in the store."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from checkpoint import layout, plain
from checkpoint.adapters.fields import Field, memory_order
from checkpoint.adapters.kinds import field_from_json
from checkpoint.rows import Column, RowSource, Values

__all__ = ["Adapter", "AdapterSchema", "order_of"]


@dataclass(frozen=True)
class AdapterSchema:
    """How the state of one step method lies in the store.

    Attributes
    ----------
    step_idx : int
        Place of the step method in the compound.
    name : str
        Class and variables, for people.
    fields : tuple of Field
        What changes from draw to draw. Empty where the whole object is pickled.
    constants : mapping of str to object
        What does not change during a run, by dotted path.
    is_pickled : bool
        Whether the step method declares no state and its object is kept instead.
    """

    step_idx: int
    name: str
    fields: tuple[Field, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    is_pickled: bool = False

    @property
    def prefix(self) -> str:
        """The step's group, with a slash behind."""
        return f"{layout.STATE}/{layout.step_group(self.step_idx)}/"

    def constant_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the constants that are stored as arrays, by path in the store."""
        return {
            self.prefix + path.replace(".", "/"): value
            for path, value in self.constants.items()
            if _is_stored_as_array(value)
        }

    def to_json(self) -> dict[str, Any]:
        constants = {
            path: None if _is_stored_as_array(value) else plain.dumps(value)
            for path, value in self.constants.items()
        }
        arrays = [self.constants[path] for path, text in constants.items() if text is None]
        return {
            "step_idx": self.step_idx,
            "name": self.name,
            "fields": [item.to_json() for item in self.fields],
            "constants": constants,
            "orders": [order_of(array) for array in arrays],
            "is_pickled": self.is_pickled,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], arrays: Mapping[str, Any]) -> "AdapterSchema":
        """Return the schema that `to_json` described; `arrays` are its constants by path."""
        step_idx = int(document["step_idx"])
        prefix = f"{layout.STATE}/{layout.step_group(step_idx)}/"
        orders = iter(document["orders"])
        constants = {
            path: np.array(
                arrays[prefix + path.replace(".", "/")], order=memory_order(next(orders))
            )
            if text is None
            else plain.loads(text)
            for path, text in document["constants"].items()
        }
        return cls(
            step_idx=step_idx,
            name=document["name"],
            fields=tuple(field_from_json(item) for item in document["fields"]),
            constants=constants,
            is_pickled=bool(document["is_pickled"]),
        )


def order_of(array: np.ndarray[Any, Any]) -> str:
    """Return the order of an array's memory."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _is_stored_as_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.size > 0


class Adapter(ABC):
    """Takes the state of one step method after each draw, and restores it."""

    schema: AdapterSchema

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Columns of a row, with full paths."""

    def start(self, step: Any, rng: np.random.Generator) -> Any:
        """Prepare a step method for the first draw of a chain; return it, or what replaces it."""
        return step

    @abstractmethod
    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        """Begin to take from `step` into the rows of a buffer."""

    @abstractmethod
    def take(self, row: int) -> None:
        """Take the state of the attached step method for a row of the buffer."""

    @abstractmethod
    def settle(self, start: int, stop: int) -> None:
        """Put what was taken since the last call into the rows from `start` to `stop`."""

    @abstractmethod
    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        """Set `step` to its state after a recorded draw; return it, or what replaces it."""
