"""The criterion that ends sampling, over runs that nothing has sampled."""

import numpy as np
import pytest
import xarray as xr

from checkpoint.errors import ArgumentError
from checkpoint.reading.until import Until, until


class Drawn:
    """A run of two variables: `mu` mixes well; the last number of `theta` does not."""

    def __init__(self, n_draws=500, shift=3.0):
        rng = np.random.default_rng(5)
        mu = rng.normal(size=(4, n_draws))
        theta = rng.normal(size=(4, n_draws, 3))
        theta[:, :, 2] += shift * np.arange(4)[:, None]
        self.dataset = xr.Dataset(
            {
                "theta": (("chain", "draw", "school"), theta),
                "mu": (("chain", "draw"), mu),
                "name": (("chain", "draw"), np.full(mu.shape, "a")),
            },
            coords={"school": ["a", "b", "c"]},
        )
        self.asked = []

    def posterior_of(self, var_names):
        self.asked.append(var_names)
        return self.dataset if var_names is None else self.dataset[var_names]


def test_one_bad_number_of_one_variable_is_enough_and_is_named():
    assert "R-hat of theta[2] is" in until().lacks(Drawn())
    assert not until()(Drawn())
    assert until()(Drawn(shift=0.0))


def test_only_the_variables_and_labels_that_are_named_count():
    run = Drawn()
    assert until(var_names="mu")(run)
    assert run.asked == [["mu"]]
    assert until(coords={"school": ["a", "b"]})(run)
    assert until(coords={"school": "a"})(run)
    assert "theta[0] is" in until(coords={"school": ["c"]}).lacks(run)


@pytest.mark.parametrize(
    ("bounds", "lack"),
    [
        ({"ess_bulk": 10_000}, "the bulk ESS of mu is"),
        ({"ess_bulk": None, "ess_tail": 10_000}, "the tail ESS of mu is"),
        ({"rhat": 1.0000001}, "R-hat of theta[0] is"),
    ],
)
def test_each_bound_counts(bounds, lack):
    assert lack in until(**bounds).lacks(Drawn(shift=0.0))
    left_out = {"rhat": None, "ess_bulk": None, "ess_tail": 1}
    assert until(**left_out)(Drawn())


def test_what_did_not_suffice_last_time_is_asked_first(monkeypatch):
    seen = []
    lack_of = Until._lack
    monkeypatch.setattr(
        Until, "_lack", lambda self, draws: seen.append(draws) or lack_of(self, draws)
    )
    criterion = until()
    criterion(Drawn())
    assert len(seen) == 4
    criterion(Drawn())
    assert len(seen) == 5


def test_what_never_varies_is_left_out_and_what_is_not_finite_is_not_met():
    run = Drawn(shift=0.0)
    run.dataset["mu"] = run.dataset["mu"] * 0 + 1
    assert until()(run)
    run.dataset["mu"][0, 0] = np.nan
    assert until().lacks(run) == "mu has draws that are not finite"
    assert until().lacks(Drawn(n_draws=9)) == "each chain has 9 draws"
    assert "no number" in until(var_names="name").lacks(run)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rhat": 1.0},
        {"rhat": "1.01"},
        {"ess_bulk": 0},
        {"ess_tail": True},
        {"ess_tail": float("nan")},
        {"rhat": None, "ess_bulk": None, "ess_tail": None},
    ],
)
def test_bounds_that_nothing_can_meet_are_refused(arguments):
    with pytest.raises(ArgumentError, match=f"until: {next(iter(arguments))}"):
        until(**arguments)


def test_its_text_has_all_that_it_asks():
    assert repr(until()) == "until(rhat=1.01, ess_bulk=400, ess_tail=400)"
    shown = repr(until(rhat=None, var_names=("mu",), coords={"school": "a"}))
    assert shown == (
        "until(rhat=None, ess_bulk=400, ess_tail=400, var_names=['mu'], coords={'school': 'a'})"
    )
