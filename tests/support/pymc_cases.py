"""The models and calls behind the stores in `fixtures/pymc_zarr`.

Frozen: the stores were written with them, and who continues one needs the same model.
`finished` is `interrupted`, `failed` and `stopped` without an end before the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm


def hierarchy() -> pm.Model:
    """One transformed variable, one that is not, a deterministic, and data."""
    with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
        scale = pm.HalfNormal("scale", 2.0)
        x = pm.Normal("x", 0.0, 1.0, dims="group")
        total = pm.Deterministic("total", scale * x.sum())
        pm.Normal("y", total, 1.0, observed=[0.5, 1.5])
    return model


def calendar() -> pm.Model:
    """Coordinates of every kind, data of both kinds, a discrete variable beside others."""
    days = np.array(["2024-02-28", "2024-02-29", "2024-03-01"], dtype="datetime64[D]")
    coords = {"town": ["Åre", "Bo", "Cádiz de la Frontera"], "year": [1999, 2024], "day": days}
    with pm.Model(coords=coords) as model:
        rate = pm.Data("rate", [0.5, 1.0, 2.0], dims="day")
        level = pm.Normal("level", 0.0, 1.0, dims=("town", "year"))
        n_events = pm.Poisson("n_events", 3.0)
        loose = pm.Normal("loose", 0.0, 1.0, shape=2)
        pm.Deterministic("per_day", rate * level.sum(), dims="day")
        mean = rate * n_events + loose.sum()
        pm.Normal("count", mean, 1.0, observed=[1.0, 3.0, 5.0], dims="day")
    return model


def one_scale() -> pm.Model:
    with pm.Model() as model:
        pm.HalfNormal("scale")
    return model


def two_counts() -> pm.Model:
    with pm.Model() as model:
        pm.Poisson("n", 4.0, shape=2)
    return model


@dataclass(frozen=True)
class Case:
    """A call of `pm.sample` with a ZarrTrace, and how it ended."""

    model: Callable[[], pm.Model]
    trace: dict[str, Any] = field(default_factory=dict)
    """Arguments of ZarrTrace; `compressor` is the configuration of a codec of numcodecs."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Arguments of `pm.sample`."""
    step: str = ""
    """Name of a step method for all variables; empty for PyMC's choice."""
    end: str = "finished"
    """`finished`; `interrupt`, `error` or `kill` after the draws in `at`."""
    at: tuple[int, ...] = ()
    """For each chain, recorded draws or buffered ones, at which it ends."""
    in_zip: bool = False
    """Whether zarr 2's ZipStore keeps it, which cannot split the draws of warm-up."""
    consistent: bool = True
    """Whether the states are those after the last recorded draws."""

    @property
    def arguments(self) -> dict[str, Any]:
        return {"chains": 2, "cores": 1, "random_seed": 11, **self.sample}


SHORT = {"tune": 12, "draws": 9}

CASES = {
    "finished": Case(hierarchy, {"include_transformed": True, "draws_per_chunk": 30}, SHORT),
    "compound": Case(
        calendar,
        {"draws_per_chunk": 8, "compressor": {"id": "zstd", "level": 3}},
        {"tune": 7, "draws": 8, "cores": 2},
    ),
    "interrupted": Case(
        hierarchy, {"draws_per_chunk": 7}, SHORT, end="interrupt", at=(17, 10), consistent=False
    ),
    "failed": Case(
        hierarchy, {"draws_per_chunk": 7}, SHORT, end="error", at=(99, 10), consistent=False
    ),
    "killed": Case(
        one_scale,
        {"include_transformed": True},
        {"tune": 3, "draws": 5, "cores": 2},
        end="kill",
        at=(5, 0),
    ),
    "stopped": Case(
        hierarchy,
        {"include_transformed": True, "draws_per_chunk": 8},
        SHORT,
        end="interrupt",
        at=(16, 8),
    ),
    "slice": Case(
        one_scale,
        {"include_transformed": True, "draws_per_chunk": 4},
        {"tune": 8, "draws": 8},
        step="Slice",
        end="error",
        at=(99, 4),
    ),
    "metropolis": Case(
        two_counts,
        {"draws_per_chunk": 10, "compressor": None},
        {"tune": 0, "draws": 10},
        step="Metropolis",
    ),
    "zip": Case(
        two_counts,
        {"draws_per_chunk": 2},
        {"tune": 2, "draws": 4},
        step="Metropolis",
        in_zip=True,
    ),
}
