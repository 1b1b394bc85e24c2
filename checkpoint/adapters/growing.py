"""Lists that grow with the run: what each draw appended, and the list again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.adapters.fields import Field, set_attribute
from checkpoint.rows import Column, RowSource, Values

__all__ = ["GrowingField", "Tail"]


class Tail(list[Any]):
    """A list that keeps its last item only, and counts what was appended.

    It takes the place of lists that a step method appends to and never reads, so that memory
    does not grow with the run.
    """

    def __init__(self, n_appended: int = 0) -> None:
        super().__init__()
        self.n_appended = n_appended

    def append(self, item: Any) -> None:
        self.n_appended += 1
        self[:] = (item,)


@dataclass(frozen=True)
class GrowingField(Field):
    """A list that each draw, once it has begun, appends one item to.

    Rows hold the item and the length.

    The list at a draw is the last `length` items up to it, so a list that loses items at its
    front is covered as well.

    Attributes
    ----------
    never_read : bool
        Whether the step method only appends to the list; a `Tail` then takes its place.
    """

    kind = "growing"
    dtype: str
    shape: tuple[int, ...]
    never_read: bool

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
        last = np.zeros((len(taken), *self.shape), dtype=self.dtype)
        for i, (_, item) in enumerate(taken):
            if item is not None:
                last[i] = item
        return lengths, last

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        length_column, last_column = self.columns
        length = int(rows.value(prefix + length_column.path, draw_idx))
        if length == 0:
            return []
        return list(rows.values(prefix + last_column.path, draw_idx + 1 - length, draw_idx + 1))

    def restore(self, step: Any, rows: RowSource, prefix: str, draw_idx: int) -> None:
        if self.never_read:
            length = int(rows.value(prefix + self.columns[0].path, draw_idx))
            set_attribute(step, self.path, Tail(length))
        else:
            super().restore(step, rows, prefix, draw_idx)
