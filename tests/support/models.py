"""The models of the tests: real data, and a small one for each step method."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from shared_models import built_once

SCHOOLS = ["A", "B", "C", "D", "E", "F", "G", "H"]


@built_once
def eight_schools() -> pm.Model:
    """Rubin (1981), Estimation in parallel randomized experiments, table 1."""
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    with pm.Model(coords={"school": SCHOOLS}) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        standard = pm.Normal("standard", dims="school")
        theta = pm.Deterministic("theta", mu + tau * standard, dims="school")
        pm.Normal(
            "effect",
            theta,
            pm.Data("error", errors, dims="school"),
            observed=effects,
            dims="school",
        )
    return model


DISASTERS = [
    4, 5, 4, 0, 1, 4, 3, 4, 0, 6, 3, 3, 4, 0, 2, 6, 3, 3, 5, 4, 5, 3, 1, 4, 4, 1, 5, 5, 3, 4, 2, 5,
    2, 2, 3, 4, 2, 1, 3, None, 2, 1, 1, 1, 1, 3, 0, 0, 1, 0, 1, 1, 0, 0, 3, 1, 0, 3, 2, 2, 0, 1, 1,
    1, 0, 1, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 2, 3, 3, 1, None, 2, 1, 1, 1, 1, 2, 4, 2, 0, 0,
    1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1,
]  # fmt: skip


@built_once
def coal_disasters() -> pm.Model:
    """Jarrett (1979), A note on the intervals between coal-mining disasters; two years missing.

    A switchpoint, two rates, and the missing counts: a compound of NUTS and Metropolis.
    """
    counts = np.ma.masked_invalid([np.nan if n is None else n for n in DISASTERS])
    counts = np.ma.masked_array(counts.filled(-999).astype(int), counts.mask)
    years = np.arange(1851, 1962)
    import warnings

    with pm.Model() as model:
        switchpoint = pm.DiscreteUniform("switchpoint", years.min(), years.max())
        early = pm.Exponential("early_rate", 1.0)
        late = pm.Exponential("late_rate", 1.0)
        rate = pm.math.switch(switchpoint >= years, early, late)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyMC says that it imputes, which is the point
            pm.Poisson("disasters", rate, observed=counts)
    return model


@built_once
def horseshoe() -> pm.Model:
    """Regularised horseshoe (Piironen and Vehtari, 2017) on scikit-learn's diabetes data."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=True)
    x, y = data.data / data.data.std(axis=0), (data.target - data.target.mean()) / data.target.std()
    n, d = x.shape
    with pm.Model(coords={"feature": list(data.feature_names)}) as model:
        sigma = pm.HalfNormal("sigma", 1)
        tau = pm.HalfStudentT("tau", 2, 3 / (d - 3) * sigma / np.sqrt(n))
        local = pm.HalfStudentT("local", 2, dims="feature")
        slab = pm.InverseGamma("slab", 1, 1)
        shrunk = local * pt.sqrt(slab / (slab + tau**2 * local**2))
        standard = pm.Normal("standard", dims="feature")
        beta = pm.Deterministic("beta", standard * tau * shrunk, dims="feature")
        pm.Normal("progression", pt.dot(x, beta), sigma, observed=y)
    return model


@built_once
def normals(n: int = 3) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", np.arange(n), np.arange(1, n + 1), shape=n)
    return model


@built_once
def positive() -> pm.Model:
    with pm.Model() as model:
        pm.HalfNormal("s")
        pm.Normal("x", shape=2)
    return model


@built_once
def counts() -> pm.Model:
    with pm.Model() as model:
        pm.Poisson("k", 7.0, shape=3)
    return model


@built_once
def binary() -> pm.Model:
    with pm.Model() as model:
        p = pm.Bernoulli("b", 0.4, shape=3)
        pm.Normal("y", p.sum(), 1.0, observed=1.3)
    return model


@built_once
def categorical() -> pm.Model:
    with pm.Model() as model:
        c = pm.Categorical("c", [0.2, 0.3, 0.5], shape=3)
        pm.Normal("y", c.sum(), 1.0, observed=2.3)
    return model
