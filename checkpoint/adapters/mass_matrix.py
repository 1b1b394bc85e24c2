"""An adapted diagonal mass matrix as a field, of which only the counters are stored.

Its vectors are computed from the recorded draws, see `running_variance`. In a model with many
parameters they are most of the sampler's state: seven vectors, each as long as a draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from checkpoint.adapters.fields import Field
from checkpoint.adapters.running_variance import Adaptation
from checkpoint.format.rows import Column, RowSource, Values

__all__ = ["DiagonalField"]


@dataclass(frozen=True)
class DiagonalField(Field):
    """The vectors of an adapted diagonal mass matrix, computed from the draws.

    Attributes
    ----------
    points : tuple of str
        Columns of the value variables that the step method draws, in the step method's order.
    window : int
        Length of the first window, in draws.
    dtypes : tuple of str
        Types of `_var`, `_stds` and `_inv_stds`.
    constants : mapping
        Constants of the step method, set by `bound`.
    """

    kind = "diagonal"
    points: tuple[str, ...]
    window: int
    dtypes: tuple[str, str, str]
    constants: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def bound(self, constants: Mapping[str, Any]) -> "DiagonalField":
        return replace(self, constants=constants)

    def to_json(self) -> dict[str, Any]:
        document = super().to_json()
        del document["constants"]
        return document

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        return ()

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> dict[str, Values]:
        """Return the vectors after a recorded draw, by path.

        Raises
        ------
        ValueError
            If the recorded counters contradict each other or the number of draws.
        """
        at = prefix + self.path.replace(".", "/")

        def counter(name: str) -> Any:
            return rows.value(f"{at}/{name}", draw_idx)

        def samples(start: int, stop: int) -> Values:
            # The chain's first draws are those of warm-up, and each of them is an update.
            parts = [rows.values(path, start, stop) for path in self.points]
            flat = [part.reshape(stop - start, prod(part.shape[1:])) for part in parts]
            return np.concatenate(flat, axis=1)

        n_updates = int(counter("_n_samples"))
        if not 0 <= n_updates <= draw_idx + 1:
            raise ValueError(f"{n_updates} updates of the mass matrix in {draw_idx + 1} draws")
        found = self._adaptation().after(n_updates, samples)
        names = ("_foreground_var", "_background_var")
        recorded = tuple(float(counter(f"{name}/n_samples")) for name in names)
        if (recorded, int(counter("adaptation_window"))) != (found.n_samples, found.window):
            raise ValueError(f"the windows of the mass matrix are not those of {n_updates} updates")
        values = {"_var": found.var, "_stds": found.stds, "_inv_stds": found.inv_stds}
        for i, name in enumerate(names):
            values |= {f"{name}.mean": found.mean[i], f"{name}.raw_var": found.raw_var[i]}
        return {f"{self.path}.{name}": value for name, value in values.items()}

    def parts(self, rows: RowSource, prefix: str, draw_idx: int) -> dict[str, Any]:
        return self.read(rows, prefix, draw_idx)

    def _adaptation(self) -> Adaptation:
        def constant(name: str) -> Any:
            return self.constants[f"{self.path}.{name}"]

        return Adaptation(
            initial_mean=constant("_initial_mean"),
            initial_diag=constant("_initial_diag"),
            initial_weight=float(constant("_initial_weight")),
            window=self.window,
            multiplier=float(constant("adaptation_window_multiplier")),
            n_discarded=int(constant("_discard_window")),
            early_update=bool(constant("_early_update")),
            dtypes=self.dtypes,
        )
