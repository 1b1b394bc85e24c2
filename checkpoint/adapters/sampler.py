"""The protocols by which the driver steps a chain; it knows nothing else of a step method.

A `Method` is the sampling method of a run; it makes a `Sampler` for each chain. `step_method.py`
implements both for PyMC's step methods.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np

from checkpoint.adapters.base import AdapterSchema
from checkpoint.format.rows import RowSource, Values

__all__ = ["BlockSampler", "Method", "Point", "Sampler", "Stats"]

Point = Mapping[str, Any]
"""The position of a chain, by value variable."""

Stats = Sequence[Mapping[str, Any]]
"""The stats of a draw, one mapping for each step method."""


class Sampler(Protocol):
    """Steps one chain, and captures and restores its state.

    `Method.sampler` makes it. Then either `start` or `restore` is called, once; then it is
    attached to the columns of a buffer, and stepped.
    """

    def start(self) -> None:
        """Prepare for the first draw of the chain."""

    def restore(self, rows: RowSource, draw_idx: int) -> None:
        """Prepare for the draw after a recorded one."""

    def step(self, point: Point) -> tuple[Point, Stats]:
        """Make a draw; return its point and its stats."""

    def stop_tuning(self) -> None:
        """End warm-up; called before the first draw after it."""

    def warn(self, stats: Stats) -> None:
        """Report the warnings in the stats of a recorded draw to the user."""

    def attach(self, data: Mapping[str, Values]) -> None:
        """Bind the sampler to the columns of a buffer, which take the captured states."""

    def capture(self, row: int) -> None:
        """Capture the state after a draw for a row of the buffer; `settle` may write it later."""

    def settle(self, start: int, stop: int) -> None:
        """Write the states captured since the last call into rows `start` to `stop`."""


@runtime_checkable
class BlockSampler(Sampler, Protocol):
    """Makes many draws in one call, with the state after each of them.

    Attributes
    ----------
    block_length : int
        Largest number of draws to ask for; the draws do not depend on it.
    """

    block_length: int

    def step_block(self, point: Point, n_draws: int) -> dict[str, Values]:
        """Make draws of one phase; return their rows, each column ``(n_draws, *shape)``."""


class Method(Protocol):
    """The sampling method of a run. It can be pickled, for other processes.

    Attributes
    ----------
    schemas : tuple of AdapterSchema
        Layout of the state in the store.
    """

    @property
    def schemas(self) -> tuple[AdapterSchema, ...]: ...

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """Return a new sampler for a chain with the generator `rng`, which is not advanced."""

    def samplers(
        self, rngs: Sequence[np.random.Generator], sources: Sequence[RowSource], n_rows: int
    ) -> list[Sampler]:
        """Return samplers for all chains of a population, ready for draw `n_rows`."""

    def link(self, samplers: Sequence[Sampler], population: list[Point]) -> None:
        """Let the samplers of a population see the points of all chains, as they change."""

    @property
    def context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Factory of the context in which a process must load and run it; can be pickled."""
