"""Interrupted and resumed == uninterrupted == `pm.sample`, for every step method PyMC ships."""

import contextlib
import shutil
from typing import Any

import numpy as np
import pytest

import checkpoint
from compare import unequal
from models import (
    coal_disasters,
    eight_schools,
    horseshoe,
    positive,
)
from settings import slowly
from ways_to_sample import CASES, Case, StopAfter

# Each step method once among the fast tests, most of them in one process; the others are slow ones.
ON_TWO_CORES = {"NUTS", "NUTS, jitter+adapt_diag_grad", "DEMetropolisZ", "compound"}
FAST = {
    "NUTS",
    "NUTS, past two windows",
    "NUTS, divergences",
    "NUTS without warm-up",
    "NUTS, some variables",
    "NUTS, adapt_full",
    "NUTS, jitter+adapt_diag_grad",
    "HamiltonianMC",
    "Metropolis",
    "Metropolis of counts",
    "BinaryMetropolis",
    "BinaryGibbsMetropolis",
    "CategoricalGibbsMetropolis",
    "DEMetropolis",
    "DEMetropolisZ",
    "Slice",
    "compound",
}


def ways(name: str, cores: int) -> Any:
    is_first = cores == (2 if name in ON_TWO_CORES else 1)
    marks = [] if is_first and name in FAST else [pytest.mark.slow]
    return pytest.param(name, cores, marks=marks)


ALL = [(name, cores) for name, case in CASES.items() for cores in case.cores]


def interrupted(case: Case, cores: int, store: Any, at: list[int]) -> Any:
    """Sample, interrupted after so many draws each time, and resume to the end."""
    for n in at:
        with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
            case.sample(cores, store, callback=StopAfter(n), resume="auto")
        assert not checkpoint.open(store).finished
    return case.sample(cores, store, resume="must")


# PyMC does not hand the seed to the ADVI of this init: two runs of `pm.sample` differ as well.
REPRODUCIBLE = [item for item in ALL if item[0] != "NUTS, advi_map"]


@pytest.mark.parametrize(("name", "cores"), [ways(*item) for item in REPRODUCIBLE])
def test_resumed_equals_pymc(name, cores, store):
    case = CASES[name]
    n_rows = case.draws + case.tune
    resumed = interrupted(case, cores, store, [3, n_rows // 2, n_rows // 3 + 1])
    assert unequal(resumed, case.sample_with_pymc(cores)) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_compiled_anew")
@pytest.mark.parametrize(("name", "cores"), REPRODUCIBLE)
def test_uninterrupted_equals_pymc(name, cores, store):
    case = CASES[name]
    assert unequal(case.sample(cores, store), case.sample_with_pymc(cores)) == []


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2])
def test_init_that_pymc_cannot_repeat_is_resumed_from_its_own_start(cores, store, tmp_path):
    case = CASES["NUTS, advi_map"]
    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        case.sample(cores, store, callback=StopAfter(20))
    shutil.copytree(store, tmp_path / "copy.zarr")
    once = case.sample(cores, tmp_path / "copy.zarr")
    assert unequal(interrupted(case, cores, store, [30, 50]), once) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_compiled_anew")
@pytest.mark.parametrize("model", [eight_schools, coal_disasters, horseshoe])
def test_real_models_resume_exactly(model, store, tmp_path):
    case = Case(model, chains=4, draws=150, tune=200)
    resumed = interrupted(case, 2, store, [100, 400, 333])
    assert unequal(resumed, case.sample(1, tmp_path / "other.zarr")) == []


@pytest.mark.parametrize("at", [1, 59, 60, 61, 99, *slowly(2, 58, 62, 98)])
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
