"""R-hat and effective sample size equal ArviZ's."""

import warnings
from statistics import NormalDist

import numpy as np
import pytest

from checkpoint.reading import diagnostics
from checkpoint.reading.diagnostics import ess_tail, rhat_and_ess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from arviz_stats.base import array_stats


def walks(n_chains, n_draws, correlation, shift=0.0, seed=1):
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(n_chains, n_draws))
    for i in range(1, n_draws):
        draws[:, i] += correlation * draws[:, i - 1]
    return draws + shift * np.arange(n_chains)[:, None]


CASES = {
    "independent": walks(4, 500, 0.0),
    "one chain": walks(1, 301, 0.5),
    "odd length": walks(3, 77, 0.3),
    "slow": walks(4, 400, 0.99),
    "apart": walks(4, 200, 0.2, shift=3.0),
    "alternating": walks(2, 200, -0.9),
    "few": walks(2, 10, 0.0),
    "odd halves": walks(2, 14, 0.5, seed=2),
    "ties": np.round(walks(4, 300, 0.8)),
    "heavy tails": np.tan(walks(4, 300, 0.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_both_equal_those_of_arviz(case):
    draws = CASES[case]
    expected = [float(array_stats.rhat(draws)), float(array_stats.ess(draws))]
    assert rhat_and_ess(draws) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_the_size_in_the_tails_equals_that_of_arviz(case):
    draws = CASES[case]
    expected = float(array_stats.ess(draws, method="tail", prob=(0.05, 0.95)))
    assert ess_tail(draws) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("draws", [np.ones((2, 50)), np.full((2, 50), np.nan), np.ones((2, 3))])
def test_there_is_none_of_what_does_not_vary_is_not_finite_or_is_too_short(draws):
    assert np.isnan(rhat_and_ess(draws)).all()
    assert np.isnan(ess_tail(draws))


def test_the_normal_quantile_is_that_of_the_standard_library():
    p = np.concatenate([np.linspace(1e-9, 1 - 1e-9, 999), [1e-15, 1e-30, 0.075, 0.925]])
    expected = [NormalDist().inv_cdf(each) for each in p]
    np.testing.assert_allclose(diagnostics._normal_quantile(p), expected, rtol=1e-12, atol=1e-14)
