"""Every step method compiled in every way: resumed exactly, and as PyMC draws.

JAX comes with `pip install jax`; it is no requirement of the tests, which pass over it without.
"""

import contextlib
from importlib.util import find_spec
from itertools import product

import pytensor
import pytest

import checkpoint
from checkpoint import errors
from compare import unequal
from models import eight_schools
from settings import SMALL
from ways_to_sample import CASES, StopAfter

MODES = ["FAST_COMPILE", "NUMBA", "CVM", "JAX"]
FAST = {("FAST_COMPILE", "NUTS"), ("JAX", "NUTS, divergences")}
REPRODUCIBLE = [name for name in CASES if name != "NUTS, advi_map"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*jax:UserWarning", "ignore:.*os.fork:RuntimeWarning"
)


def case_of(mode, name):
    return pytest.param(mode, name, marks=[] if (mode, name) in FAST else [pytest.mark.slow])


@pytest.mark.parametrize(
    ("mode", "name"), [case_of(*pair) for pair in product(MODES, REPRODUCIBLE)]
)
def test_a_run_of_any_backend_is_resumed_exactly(mode, name, store):
    if mode == "JAX" and find_spec("jax") is None:
        pytest.skip("jax is not installed; pip install jax brings it")
    case = CASES[name]
    cores = case.cores[0]
    if mode == "JAX" and cores > 1:
        pytest.skip("a fork of a process that has used JAX may hang")
    with pytensor.config.change_flags(mode=mode):
        with contextlib.suppress(errors.TooFewDrawsError):
            case.sample(cores, store, callback=StopAfter(case.tune + 3))
        resumed = case.sample(cores, store)
        assert unequal(resumed, case.sample_with_pymc(cores)) == []


@pytest.mark.parametrize(
    "arguments", [{"backend": "enzyme"}, {"compile_kwargs": {"mode": "FASTER"}}]
)
def test_an_unknown_mode_is_an_error_before_anything_is_written(arguments, store):
    with eight_schools(), pytest.raises(errors.ArgumentError, match="no such mode"):
        checkpoint.sample(store, draws=5, tune=5, **SMALL, **arguments)
    assert not store.exists()
