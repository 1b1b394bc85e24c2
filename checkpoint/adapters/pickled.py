"""Step methods that declare no state: their pickled object, kept at commits.

Only reached with ``allow_pickle=True``. The model and the compiled functions stay out of the
pickle: the step method is rebuilt around those of the resumed run.
"""

import base64
from collections.abc import Mapping
from typing import Any

from checkpoint._pymc.steps import dump_step, load_step
from checkpoint.adapters.base import Adapter, AdapterSchema
from checkpoint.arrays import TEXT
from checkpoint.rows import Column, RowSource, Values

__all__ = ["PickledAdapter"]


class PickledAdapter(Adapter):
    """One text column per commit: the pickle in base 64."""

    def __init__(self, schema: AdapterSchema) -> None:
        self.schema = schema

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column(f"{self.schema.prefix}pickle", TEXT, (), per_commit=True),)

    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        self._step = step
        self._target = data[self.columns[0].path]

    def take(self, row: int) -> None:
        """Do nothing: the object is pickled when its rows are settled."""

    def settle(self, start: int, stop: int) -> None:
        if start < stop:
            self._target[0] = base64.b64encode(dump_step(self._step, {})).decode()

    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        shared: dict[int, Any] = {}
        dump_step(step, shared)  # the walk numbers what is shared in the same order
        text = rows.value(self.columns[0].path, draw_idx)
        return load_step(base64.b64decode(text), shared)
