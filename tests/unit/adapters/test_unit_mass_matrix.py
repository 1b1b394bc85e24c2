"""A mass matrix is made again from draws as PyMC's own updates made it, to the last bit."""

import numpy as np
import pytest
from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt

from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.declared import StepAdapter
from checkpoint.adapters.fields import ScalarField
from checkpoint.adapters.mass_matrix import DiagonalField
from checkpoint.adapters.running_variance import Adaptation

N = 5
VECTORS = {"var": "_var", "stds": "_stds", "inv_stds": "_inv_stds"}
COUNTERS = {
    "_n_samples": ("<i8", "int"),
    "adaptation_window": ("<i8", "int"),
    "_foreground_var.n_samples": ("<f8", "float"),
    "_background_var.n_samples": ("<f8", "float"),
}
INITIAL = {
    "initial_mean": np.linspace(-1, 1, N),
    "initial_diag": np.linspace(0.5, 2, N),
    "initial_weight": 10,
}


def draws(n):
    return np.random.default_rng(1).normal(size=(n, N)) * np.logspace(-3, 3, N)


def potential_and_adaptation(dtype="float64", window=7, multiplier=1, discarded=5, early=False):
    initial = {
        name: value if name == "initial_weight" else value.astype(dtype)
        for name, value in INITIAL.items()
    }
    potential = QuadPotentialDiagAdapt(
        N,
        **initial,
        adaptation_window=window,
        adaptation_window_multiplier=multiplier,
        discard_window=discarded,
        early_update=early,
        dtype=dtype,
        rng=1,
    )
    dtypes = tuple(getattr(potential, name).dtype.str for name in VECTORS.values())
    return potential, Adaptation(
        **initial,
        window=window,
        multiplier=multiplier,
        n_discarded=discarded,
        early_update=early,
        dtypes=dtypes,
    )


def assert_equal(found, potential):
    for name, attribute in VECTORS.items():
        expected = getattr(potential, attribute)
        assert getattr(found, name).dtype == expected.dtype
        assert np.array_equal(getattr(found, name), expected), name
    for i, estimate in enumerate((potential._foreground_var, potential._background_var)):
        assert np.array_equal(found.mean[i], estimate.mean)
        assert np.array_equal(found.raw_var[i], estimate.raw_var)
        assert found.n_samples[i] == estimate.n_samples
    assert found.window == potential.adaptation_window


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("window", "multiplier", "discarded"), [(7, 1, 5), (7, 2, 5), (7, 1.5, 6), (3, 1, 0)]
)
def test_it_is_that_of_pymc_after_every_draw(dtype, early, window, multiplier, discarded):
    potential, adaptation = potential_and_adaptation(dtype, window, multiplier, discarded, early)
    samples = draws(60).astype(dtype)
    assert_equal(adaptation.after(0, lambda start, stop: samples[start:stop]), potential)
    for n, sample in enumerate(samples, start=1):
        potential.update(sample, None, True)
        found = adaptation.after(n, lambda start, stop: samples[start:stop])
        assert_equal(found, potential)


def test_it_asks_for_the_draws_of_three_windows_at_most():
    _, adaptation = potential_and_adaptation(window=10)
    samples, asked = draws(1000), []

    def ask(start, stop):
        asked.append((start, stop))
        return samples[start:stop]

    for n in range(100, 131):
        adaptation.after(n, ask)
    assert max(stop - start for start, stop in asked) <= 30


class Rows:
    """Rows of two variables and the counters of a potential."""

    def __init__(self, samples):
        potential, _ = potential_and_adaptation()
        self.data = {"a": samples[:, :2], "b": samples[:, 2:].reshape(-1, 3, 1)}
        counters = {name: [] for name in COUNTERS}
        self.states = []
        for sample in samples:
            potential.update(sample, None, True)
            self.states.append(potential._stds.copy())
            for name, taken in counters.items():
                owner = potential
                for part in name.split("."):
                    owner = getattr(owner, part)
                taken.append(owner)
        for name, taken in counters.items():
            self.data[f"_sampling_state/step_0/potential/{name.replace('.', '/')}"] = np.array(
                taken
            )

    def value(self, path, draw_idx):
        return self.data[path][draw_idx]

    def values(self, path, start, stop):
        return self.data[path][start:stop]


def adapter():
    constants = {
        "potential._initial_mean": INITIAL["initial_mean"],
        "potential._initial_diag": INITIAL["initial_diag"],
        "potential._initial_weight": 10,
        "potential.adaptation_window_multiplier": 1.0,
        "potential._discard_window": 5,
        "potential._early_update": False,
    }
    counters = [ScalarField(f"potential.{n}", *kinds) for n, kinds in COUNTERS.items()]
    field = DiagonalField("potential", ("a", "b"), 7, ("<f8", "<f8", "<f8"))
    schema = AdapterSchema(0, "NUTS", (*counters, field), constants)
    arrays = {path: value for path, value in schema.constant_arrays().items() if value is not None}
    return StepAdapter(AdapterSchema.from_json(schema.to_json(), arrays))


def test_a_state_is_read_from_the_draws_of_several_variables():
    rows = Rows(draws(40))
    for draw_idx in (0, 6, 7, 8, 20, 39):
        state = adapter().read(rows, draw_idx)
        assert np.array_equal(state["potential"]["_stds"], rows.states[draw_idx])


def test_a_run_without_warm_up_keeps_the_first_mass_matrix():
    rows = Rows(draws(3))
    for name, value in (("_n_samples", 0), ("_foreground_var/n_samples", 10.0),
                        ("_background_var/n_samples", 0.0)):  # fmt: skip
        rows.data[f"_sampling_state/step_0/potential/{name}"][:] = value
    found = adapter().read(rows, 2)["potential"]["_var"]
    assert np.array_equal(found, INITIAL["initial_diag"])


@pytest.mark.parametrize(
    ("counter", "value"),
    [("_n_samples", 38), ("_n_samples", 10**6), ("_foreground_var/n_samples", 3.0)],
)
def test_counters_that_contradict_the_draws_are_refused(counter, value):
    rows = Rows(draws(40))
    rows.data[f"_sampling_state/step_0/potential/{counter}"][39] = value
    with pytest.raises(ValueError, match="of the mass matrix"):
        adapter().read(rows, 39)
