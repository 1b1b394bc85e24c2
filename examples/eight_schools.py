"""The eight schools (Rubin 1981): the model and data of the demonstration."""

import numpy as np
import pymc as pm

SCHOOLS = [
    "Choate", "Deerfield", "Phillips Andover", "Phillips Exeter",
    "Hotchkiss", "Lawrenceville", "St. Paul's", "Mt. Hermon",
]  # fmt: skip
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model() -> pm.Model:
    """Return the model, in its non-centred form."""
    with pm.Model(coords={"school": SCHOOLS}) as eight_schools:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        standard = pm.Normal("standard", dims="school")
        theta = pm.Deterministic("theta", mu + tau * standard, dims="school")
        pm.Normal("effect", theta, ERRORS, observed=EFFECTS, dims="school")
    return eight_schools
