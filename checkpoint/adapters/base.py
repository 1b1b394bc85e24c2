"""The interface of an adapter, and the schema of it that the store keeps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from checkpoint.adapters.fields import Field, memory_order
from checkpoint.adapters.kinds import field_from_json
from checkpoint.adapters.packing import Pack, PackedRows, pack, views
from checkpoint.adapters.scalar_types import TYPE_CODES
from checkpoint.format import layout, plain
from checkpoint.format.arrays import TEXT
from checkpoint.format.rows import Column, RowSource, Values

__all__ = ["Adapter", "AdapterSchema", "order_of"]


@dataclass(frozen=True)
class AdapterSchema:
    """Layout of the state of one step method in the store.

    Attributes
    ----------
    step_idx : int
        Index of the step method in the compound.
    name : str
        Class and variables, for messages.
    fields : tuple of Field
        Fields that change from draw to draw. Empty if the whole object is pickled.
    constants : mapping of str to object
        Values that do not change during a run, by dotted path.
    is_pickled : bool
        Whether the step method declares no state and its pickled object is kept instead.
    packs : tuple of Pack
        Groups of columns that share one array; empty in stores older than packing.
    """

    step_idx: int
    name: str
    fields: tuple[Field, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    is_pickled: bool = False
    packs: tuple[Pack, ...] = ()

    @classmethod
    def packed(
        cls, step_idx: int, name: str, fields: tuple[Field, ...], constants: Mapping[str, Any]
    ) -> "AdapterSchema":
        """Return a schema whose small columns are packed."""
        schema = cls(step_idx, name, fields, constants)
        return replace(schema, packs=pack(schema._members))

    @property
    def prefix(self) -> str:
        """Path of the step method's group, with a trailing slash."""
        return f"{layout.STATE}/{layout.step_group(self.step_idx)}/"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the step method, with paths from the root of the store."""
        if self.is_pickled:
            return (Column(f"{self.prefix}pickle", TEXT, (), per_commit=True),)
        packed = {path for one in self.packs for path in one.slices()}
        alone = [column for column in self._members if column.path not in packed]
        return tuple(
            Column(self.prefix + column.path, column.dtype, column.shape)
            for column in [*alone, *(one.column for one in self.packs)]
        )

    @property
    def _members(self) -> list[Column]:
        """Columns before packing, with paths relative to the step method's group."""
        columns = [column for item in self.fields for column in item.columns]
        types = [Column(TYPE_CODES, "|u1", (self.n_typed,))] if self.n_typed else []
        return [*columns, *types]

    @property
    def n_typed(self) -> int:
        """Number of fields that store the type of each draw's value."""
        return sum(getattr(item, "type_idx", None) is not None for item in self.fields)

    def views(self, data: Mapping[str, Values]) -> Mapping[str, Values]:
        """Return rows by column; rows of packed columns are views of the packed array."""
        return views(self.packs, self.prefix, data) if self.packs else data

    def unpacked(self, rows: RowSource) -> RowSource:
        """Return a row source that finds packed columns by their own paths."""
        return PackedRows(rows, self.packs, self.prefix) if self.packs else rows

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
            "packs": [one.to_json() for one in self.packs],
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
            packs=tuple(map(Pack.from_json, document.get("packs", []))),
        )


def order_of(array: np.ndarray[Any, Any]) -> str:
    """Return the order of an array's memory."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _is_stored_as_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.size > 0


class Adapter(ABC):
    """Captures the state of one step method after each draw, and restores it."""

    schema: AdapterSchema

    def start(self, step: Any, rng: np.random.Generator) -> Any:
        """Return the step method that makes the first draw: `step`, or what replaces it."""
        return step

    @abstractmethod
    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        """Bind the adapter to `step` and to the columns of a buffer."""

    @abstractmethod
    def take(self, row: int) -> None:
        """Capture the state of the attached step method for a row of the buffer."""

    @abstractmethod
    def settle(self, start: int, stop: int) -> None:
        """Write the states captured since the last call into rows `start` to `stop`."""

    @abstractmethod
    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        """Set `step` to its state after a recorded draw; return it, or its replacement."""
