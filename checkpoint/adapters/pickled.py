"""The adapter for step methods that declare no state: it keeps a pickle of them at commits.

It is only used with ``allow_pickle=True``. The model and the compiled functions stay out of the
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
from checkpoint.format.rows import RowSource, Values

__all__ = ["INITIAL", "PickledAdapter", "pickled"]

INITIAL = "initial pickle"
"""The constant that holds the object before its first draw."""


class PickledAdapter(Adapter):
    """Keeps the pickle as base 64 in one text column, once per commit."""

    def __init__(self, schema: AdapterSchema) -> None:
        self.schema = schema

    def start(self, step: Any, rng: np.random.Generator) -> Any:
        # Every chain starts with the object that the run began with, and seeds numpy's global
        # generator from the chain's own.
        loaded = _load(self.schema.constants[INITIAL], step)
        np.random.seed(int(rng.integers(1 << 32)))
        return loaded

    def attach(self, step: Any, data: Mapping[str, Values]) -> None:
        self._step = step
        self._target = data[self.schema.columns[0].path]

    def take(self, row: int) -> None:
        """Do nothing: the object is pickled when its rows are settled."""

    def settle(self, start: int, stop: int) -> None:
        if start < stop:
            self._target[0] = pickled(self._step)

    def restore(self, step: Any, rows: RowSource, draw_idx: int) -> Any:
        return _load(rows.value(self.schema.columns[0].path, draw_idx), step)


def pickled(step: Any) -> str:
    """Return a step method and the state of numpy's global generator as text."""
    parts = (dump_step(step, {}), np.random.get_state())
    return base64.b64encode(pickle.dumps(parts)).decode()


def _load(text: str, step: Any) -> Any:
    shared: dict[int, Any] = {}
    dump_step(step, shared)  # numbers the shared objects in the order of the pickle
    data, global_state = pickle.loads(base64.b64decode(text))
    np.random.set_state(global_state)
    return load_step(data, shared)
