"""Interrupted and resumed == uninterrupted == `pm.sample`, for every step method PyMC ships."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from compare import unequal
from models import (
    binary,
    categorical,
    coal_disasters,
    counts,
    eight_schools,
    horseshoe,
    normals,
    positive,
)
from settings import SMALL

import checkpoint

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

# Their initialisation, or their four step methods, take long to compile: once is enough for now.
LONG = {
    "NUTS, map",
    "NUTS, jitter+map",
    "NUTS, advi",
    "NUTS, advi+adapt_diag",
    "compound",
    "compound of four",
}


def times(name: str, cores: int) -> Any:
    marks = [pytest.mark.slow] if name in LONG and cores == 1 else []
    return pytest.param(name, cores, marks=marks)


ALL = [(name, cores) for name, case in CASES.items() for cores in case.cores]


class StopAfter:
    """A callback that interrupts when the chains together have drawn so often."""

    def __init__(self, n: int) -> None:
        self.n_left = n

    def __call__(self, trace: Any, draw: Any) -> None:
        self.n_left -= 1
        if self.n_left <= 0:
            raise KeyboardInterrupt


def interrupted(case: Case, cores: int, store: Any, at: list[int]) -> Any:
    """Sample, interrupted after so many draws each time, and resume to the end."""
    for n in at:
        with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
            case.sample(cores, store, callback=StopAfter(n), resume="auto")
        assert not checkpoint.open(store).finished
    return case.sample(cores, store, resume="must")


# PyMC does not hand the seed to the ADVI of this init: two runs of `pm.sample` differ as well.
REPRODUCIBLE = [times(*item) for item in ALL if item[0] != "NUTS, advi_map"]


@pytest.mark.parametrize(("name", "cores"), REPRODUCIBLE)
def test_uninterrupted_equals_pymc(name, cores, store):
    case = CASES[name]
    assert unequal(case.sample(cores, store), case.sample_with_pymc(cores)) == []


@pytest.mark.parametrize(("name", "cores"), REPRODUCIBLE)
def test_resumed_equals_uninterrupted(name, cores, store, tmp_path):
    case = CASES[name]
    n_rows = case.draws + case.tune
    at = [3, n_rows // 2, n_rows // 3 + 1]
    resumed = interrupted(case, cores, store, at)
    assert unequal(resumed, case.sample(cores, tmp_path / "other.zarr")) == []


@pytest.mark.parametrize("cores", [1, 2])
def test_init_that_pymc_cannot_repeat_is_resumed_from_its_own_start(cores, store, tmp_path):
    case = CASES["NUTS, advi_map"]
    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        case.sample(cores, store, callback=StopAfter(20))
    shutil.copytree(store, tmp_path / "copy.zarr")
    once = case.sample(cores, tmp_path / "copy.zarr")
    assert unequal(interrupted(case, cores, store, [30, 50]), once) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", [eight_schools, coal_disasters, horseshoe])
def test_real_models_resume_exactly(model, store, tmp_path):
    case = Case(model, chains=4, draws=150, tune=200)
    resumed = interrupted(case, 2, store, [100, 400, 333])
    assert unequal(resumed, case.sample(1, tmp_path / "other.zarr")) == []


@pytest.mark.parametrize("at", [1, 2, 58, 59, 60, 61, 62, 98, 99])
def test_every_kind_of_draw_can_be_the_last_before_a_stop(at, store, tmp_path):
    case = Case(positive, chains=1)
    resumed = interrupted(case, 1, store, [at])
    assert unequal(resumed, case.sample(1, tmp_path / "other.zarr")) == []


def test_resuming_at_every_draw_is_exact(store, tmp_path):
    case = Case(positive, chains=1, draws=6, tune=8)
    resumed = interrupted(case, 1, store, [1] * 13)
    assert unequal(resumed, case.sample(1, tmp_path / "other.zarr")) == []


def test_another_number_of_cores_continues_exactly(store, tmp_path):
    case = Case(eight_schools, chains=4)
    interrupted(case, 2, store, [150])
    for cores in (1, 4):
        again = case.sample(cores, store)
    assert unequal(again, case.sample(1, tmp_path / "other.zarr")) == []


def test_extending_equals_a_longer_run(store, tmp_path):
    case = Case(eight_schools, draws=30)
    case.sample(2, store, draws_per_chunk=7)
    longer = Case(eight_schools, draws=75)
    assert unequal(longer.sample(2, store), longer.sample(2, tmp_path / "other.zarr")) == []


def test_asking_for_fewer_draws_returns_the_first(store):
    longer = Case(eight_schools, draws=50)
    shorter = Case(eight_schools, draws=20)
    whole = longer.sample(2, store)
    first = shorter.sample(2, store)
    assert np.array_equal(first.posterior["mu"], whole.posterior["mu"][:, :20])
    assert checkpoint.open(store).draws == 50


def test_without_a_seed_the_drawn_one_is_kept(store):
    case = Case(positive, arguments={"random_seed": None})
    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        case.sample(1, store, callback=StopAfter(80))
    before = checkpoint.open(store).warmup_posterior
    after = case.sample(1, store)
    n = before.sizes["draw"]
    kept = after.warmup_posterior["x"].values[before.chain.values, :n]
    assert np.array_equal(before["x"].values, kept)
    assert unequal(after, case.sample(1, store)) == []


def test_the_oracle_sees_one_different_bit(store, tmp_path):
    case = Case(positive)
    a = case.sample(1, store)
    b = case.sample(1, tmp_path / "other.zarr")
    values = b.posterior["x"].values
    values[0, 3, 1] = np.nextafter(values[0, 3, 1], np.inf)
    assert unequal(a, b) == ["posterior/x"]
