"""Every step method with floatX=float32: resumed exactly, and as PyMC draws."""

import contextlib

import pytensor
import pytest

import checkpoint
from checkpoint import errors
from compare import unequal
from ways_to_sample import CASES, StopAfter

FAST = {"NUTS", "DEMetropolisZ"}
# PyMC does not hand the seed to the ADVI of this init: two runs of `pm.sample` differ as well.
REPRODUCIBLE = [name for name in CASES if name != "NUTS, advi_map"]

pytestmark = pytest.mark.filterwarnings("ignore:.*float32:UserWarning")


@pytest.fixture(autouse=True)
def _in_single_precision():
    with pytensor.config.change_flags(floatX="float32"):
        yield


def sample(case, place, **arguments):
    with case.model():
        return checkpoint.sample(place, **{**case.keywords(1), **arguments})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in REPRODUCIBLE],
)
def test_a_run_in_single_precision_is_resumed_exactly(name, store, tmp_path):
    case = CASES[name]
    cores = case.cores[0]
    with contextlib.suppress(errors.TooFewDrawsError):
        case.sample(cores, store, callback=StopAfter(case.tune // 2 + 1))
    resumed = case.sample(cores, store)
    assert unequal(resumed, case.sample_with_pymc(cores)) == []


def test_a_warm_up_that_was_killed_goes_on(store):
    """Whichever type the first number of chain 0 has."""
    case = CASES["NUTS, past two windows"]
    for seed in (1, 2, 3):
        place = store.with_name(f"{seed}.zarr")
        arguments = {"random_seed": seed, "chains": 2, "tune": 40, "draws": 5}
        with contextlib.suppress(errors.TooFewDrawsError):
            sample(case, place, callback=StopAfter(20), **arguments)
        assert sample(case, place, **arguments).posterior.sizes["draw"] == 5
