"""Lists that grow with the run, stored as the item that each draw appends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.adapters.fields import Field, set_attribute
from checkpoint.adapters.scalar_types import TYPE_CODES, as_type, codes_of, exact_column
from checkpoint.format.rows import Column, RowSource, Values

__all__ = ["GrowingField", "Tail"]


class Tail(list[Any]):
    """A list that keeps only its last item, and counts the appended items.

    It replaces lists that a step method appends to and never reads, so that memory does not grow
    with the run.
    """

    def __init__(self, n_appended: int = 0) -> None:
        super().__init__()
        self.n_appended = n_appended

    def append(self, item: Any) -> None:
        self.n_appended += 1
        self[:] = (item,)


@dataclass(frozen=True)
class GrowingField(Field):
    """A list to which each draw appends one item, from some draw on.

    Rows hold that item and the length of the list.

    The list at a draw consists of the items of the last `length` draws, so lists that lose items
    at their front are covered too.

    Attributes
    ----------
    never_read : bool
        Whether the step method only appends to the list; a `Tail` then replaces it.
    type_idx : int or None
        Index of the item among the type codes of the step method; None if it is an array.
    """

    kind = "growing"
    dtype: str
    shape: tuple[int, ...]
    never_read: bool
    type_idx: int | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column("length", "<i8"), self.column("last", self.dtype, self.shape))

    def taker(self) -> Callable[[Any], Any]:
        before: tuple[int, Any] = (0, None)

        def take(step: Any) -> Any:
            nonlocal before
            taken = self.take(step)
            length, last = taken
            if length and length == before[0] and last is before[1]:
                raise self._changed("a list that a draw did not append to")
            before = taken
            return taken

        return take

    def take(self, step: Any) -> Any:
        items = self.get(step)
        if not self.never_read:
            # Items are new objects, never changed after they are appended.
            return len(items), items[-1] if items else None
        if type(items) is not Tail:
            tail = Tail(len(items))
            tail[:] = items[-1:]
            set_attribute(step, self.path, tail)
            items = tail
        return items.n_appended, items[-1] if items else None

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        lengths = np.array([length for length, _ in taken], dtype="<i8")
        items = [item for _, item in taken]
        if self.type_idx is not None:
            nothing = np.zeros((), self.dtype)[()]
            column = exact_column([nothing if x is None else x for x in items], self.dtype)
            if column is None:
                raise self._changed(f"a list of {type(items[-1]).__name__}")
            return lengths, column
        last = np.zeros((len(taken), *self.shape), dtype=self.dtype)
        for i, item in enumerate(items):
            if item is None:
                continue
            if self.shape and np.asarray(item).dtype != self.dtype:
                raise self._changed(f"a list of {np.asarray(item).dtype}")
            last[i] = item
        return lengths, last

    def type_codes(self, taken: Sequence[Any]) -> Values:
        """Return the type codes of the captured items."""
        codes = codes_of([item for _, item in taken])
        if codes is None:
            raise self._changed(f"a list of {type(taken[-1][1]).__name__}")
        return codes

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        length_column, last_column = self.columns
        length = int(rows.value(prefix + length_column.path, draw_idx))
        if length == 0:
            return []
        of_list = (draw_idx + 1 - length, draw_idx + 1)
        items = list(rows.values(prefix + last_column.path, *of_list))
        if self.type_idx is None:
            return items
        codes = rows.values(prefix + TYPE_CODES, *of_list)[:, self.type_idx].tolist()
        return [as_type(item, code) for item, code in zip(items, codes, strict=True)]

    def restore(self, step: Any, rows: RowSource, prefix: str, draw_idx: int) -> None:
        if self.never_read:
            length = int(rows.value(prefix + self.columns[0].path, draw_idx))
            set_attribute(step, self.path, Tail(length))
        else:
            super().restore(step, rows, prefix, draw_idx)
