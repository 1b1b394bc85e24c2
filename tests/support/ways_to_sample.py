"""Every way to sample that must resume exactly, and how a run of one is interrupted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pytensor

import checkpoint
from models import (
    binary,
    categorical,
    coal_disasters,
    counts,
    eight_schools,
    normals,
    positive,
)
from settings import SMALL

DRAWS, TUNE = 40, 60


@dataclass(frozen=True)
class Case:
    """One way to sample one model."""

    model: Callable[[], pm.Model]
    arguments: dict[str, Any] = field(default_factory=dict)
    step: Callable[[], Any] | None = None
    chains: int = 2
    draws: int = DRAWS
    tune: int = TUNE
    cores: tuple[int, ...] = (1, 2)

    def keywords(self, cores: int) -> dict[str, Any]:
        return {
            "draws": self.draws,
            "tune": self.tune,
            "chains": self.chains,
            "cores": cores,
            "random_seed": 20,
            "discard_tuned_samples": False,
            "keep_warning_stat": True,
            **SMALL,
            **self.arguments,
        }

    def sample(self, cores: int, store: Any, **extra: Any) -> Any:
        with self.model():
            step = {"step": self.step()} if self.step else {}
            return checkpoint.sample(store, **self.keywords(cores), **step, **extra)

    def sample_with_pymc(self, cores: int) -> Any:
        keywords = self.keywords(cores)
        if int(pm.__version__.split(".")[0]) < 6:
            keywords.pop("quiet")
        with self.model(), pytensor.config.change_flags(numba__fastmath=False):
            step = {"step": self.step()} if self.step else {}
            return pm.sample(nuts_sampler="pymc", **keywords, **step)


def proposal(name: str) -> Callable[[], Any]:
    dist = getattr(pm.step_methods.metropolis, name)
    if name == "MultivariateNormalProposal":
        return lambda: pm.Metropolis(S=np.eye(3) * 0.5, proposal_dist=dist, blocked=True)
    if name == "UniformProposal":
        return lambda: pm.Metropolis(S=np.ones(3), proposal_dist=dist, blocked=True)
    return lambda: pm.Metropolis(proposal_dist=dist)


CASES = {
    "NUTS": Case(positive),
    "NUTS of the model's own": Case(positive, step=lambda: pm.NUTS(target_accept=0.9)),
    "NUTS, past two windows": Case(eight_schools, draws=30, tune=260, arguments={"chains": 3}),
    "NUTS, divergences": Case(
        eight_schools, arguments={"nuts": {"step_scale": 40, "adapt_step_size": False}}
    ),
    "NUTS without warm-up": Case(positive, tune=0),
    "NUTS, some variables": Case(eight_schools, arguments={"var_names": ["theta"]}),
    **{
        f"NUTS, {init}": Case(positive, arguments={"init": init, "n_init": 200})
        for init in (
            "adapt_diag",
            "jitter+adapt_diag",
            "advi+adapt_diag",
            "advi",
            "advi_map",
            "map",
            "adapt_full",
            "jitter+adapt_full",
        )
    },
    # PyMC cannot run this one in one process: its state class names what does not exist.
    "NUTS, jitter+adapt_diag_grad": Case(
        positive, tune=130, cores=(2,), arguments={"init": "jitter+adapt_diag_grad"}
    ),
    "HamiltonianMC": Case(positive, step=lambda: pm.HamiltonianMC()),
    "Metropolis": Case(normals, tune=250, step=lambda: pm.Metropolis()),
    "Metropolis of counts": Case(counts, step=lambda: pm.Metropolis()),
    **{
        f"Metropolis, {name}": Case(
            counts if name == "PoissonProposal" else normals, step=proposal(name)
        )
        for name in (
            "NormalProposal",
            "UniformProposal",
            "CauchyProposal",
            "LaplaceProposal",
            "PoissonProposal",
            "MultivariateNormalProposal",
        )
    },
    "BinaryMetropolis": Case(
        binary, step=lambda: pm.BinaryMetropolis(pm.modelcontext(None).free_RVs)
    ),
    "BinaryGibbsMetropolis": Case(binary),
    "CategoricalGibbsMetropolis": Case(categorical),
    "CategoricalGibbsMetropolis, proportional": Case(
        categorical,
        step=lambda: pm.CategoricalGibbsMetropolis(
            pm.modelcontext(None).free_RVs, proposal="proportional"
        ),
    ),
    "DEMetropolis": Case(normals, chains=5, step=lambda: pm.DEMetropolis(), tune=120),
    "DEMetropolis, lambda": Case(
        normals, chains=4, step=lambda: pm.DEMetropolis(tune="lambda"), tune=120
    ),
    "DEMetropolisZ": Case(normals, tune=120, step=lambda: pm.DEMetropolisZ()),
    "DEMetropolisZ, lambda": Case(normals, tune=120, step=lambda: pm.DEMetropolisZ(tune="lambda")),
    "Slice": Case(normals, step=lambda: pm.Slice()),
    "compound": Case(coal_disasters),
    "compound of four": Case(
        eight_schools,
        step=lambda: [
            pm.Slice([pm.modelcontext(None)["mu"]]),
            pm.Metropolis([pm.modelcontext(None)["tau"]]),
            pm.NUTS([pm.modelcontext(None)["standard"]]),
        ],
    ),
}
if "jitter+map" in (pm.init_nuts.__doc__ or ""):
    CASES["NUTS, jitter+map"] = Case(positive, arguments={"init": "jitter+map"})


class StopAfter:
    """A callback that interrupts when the chains together have drawn so often."""

    def __init__(self, n: int) -> None:
        self.n_left = n

    def __call__(self, trace: Any, draw: Any) -> None:
        self.n_left -= 1
        if self.n_left <= 0:
            raise KeyboardInterrupt
