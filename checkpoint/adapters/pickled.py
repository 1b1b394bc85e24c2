"""Step methods that declare no state: their pickled object, kept at commits.

Only reached with ``allow_pickle=True``. The model and the compiled functions stay out of the
pickle: the step method is rebuilt around those of the resumed run. Step methods of this kind may
draw from numpy's global generator (pymc-bart does), so its state is kept with them.
"""

import base64
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint._pymc.steps import dump_step, load_step
from checkpoint.adapters.base import Adapter, AdapterSchema
from checkpoint.arrays import TEXT
from checkpoint.rows import Column, RowSource, Values

__all__ = ["INITIAL", "PickledAdapter", "pickled"]

INITIAL = "initial pickle"
"""The constant that holds the object before its first draw."""


class PickledAdapter(Adapter):
    """One text column per commit: the pickle in base 64."""

    def __init__(self, schema: AdapterSchema) -> None:
        self.schema = schema

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column(f"{self.schema.prefix}pickle", TEXT, (), per_commit=True),)

    def start(self, step: Any, rng: np.random.Generator) -> Any:
        # Every chain, whenever it begins, has the object that the run began with, and its own
        # place in numpy's global stream.
        loaded = _load(self.schema.constants[INITIAL], step)
        np.random.seed(int(rng.integers(1 << 32)))
        return loaded

    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        self._step = step
        self._target = data[self.columns[0].path]

    def take(self, row: int) -> None:
        """Do nothing: the object is pickled when its rows are settled."""

    def settle(self, start: int, stop: int) -> None:
        if start < stop:
            self._target[0] = pickled(self._step)

    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        return _load(rows.value(self.columns[0].path, draw_idx), step)


def pickled(step: Any) -> str:
    """Return a step method and the state of numpy's global generator as text."""
    parts = (dump_step(step, {}), np.random.get_state())
    return base64.b64encode(pickle.dumps(parts)).decode()


def _load(text: str, step: Any) -> Any:
    shared: dict[int, Any] = {}
    dump_step(step, shared)  # the walk numbers what is shared in the same order
    data, global_state = pickle.loads(base64.b64decode(text))
    np.random.set_state(global_state)
    return load_step(data, shared)
