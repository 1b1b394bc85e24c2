"""Which numbers of a run R-hat and effective sample size are computed of."""

import numpy as np
import pytest

from checkpoint.reading.convergence import convergence
from checkpoint.reading.diagnostics import rhat_and_ess

RNG = np.random.default_rng(3)
DRAWS = {
    "x": RNG.normal(size=(2, 50, 3, 2)),
    "mu": RNG.normal(size=(2, 50)),
    "fixed": np.ones((2, 50)),
}
DRAWS["x"][1, :, 2, 1] += 5


def found(limit, draws=DRAWS, n=50):
    read = []

    def of(name):
        read.append(name)
        return draws[name]

    shapes = {name: values.shape[2:] for name, values in draws.items()}
    return convergence(shapes, of, 2, n, limit), read


def test_the_worst_number_is_named_by_its_index():
    worst, _ = found(None)
    assert (worst.rhat_of, worst.ess_of) == ("x[2, 1]", "x[2, 1]")
    assert (worst.rhat, worst.ess) == rhat_and_ess(DRAWS["x"][:, :, 2, 1])
    assert (worst.n_quantities, worst.n_of, worst.chains, worst.draws) == (8, 8, 2, 50)


@pytest.mark.parametrize(("limit", "n"), [(100, 1), (399, 3), (400, 4), (0, 0)])
def test_no_more_draws_than_the_limit_are_looked_at(limit, n):
    worst, _ = found(limit)
    assert (worst.n_quantities if worst else 0) == n


def test_a_variable_much_larger_than_what_is_left_is_not_read():
    draws = {"mu": DRAWS["mu"], "large": RNG.normal(size=(2, 50, 20))}
    worst, read = found(200, draws)
    assert read == ["mu"]
    assert (worst.n_quantities, worst.n_of) == (1, 21)


def test_there_is_nothing_to_say_of_a_few_draws_or_of_what_does_not_vary():
    assert found(None, n=9)[0] is None
    worst, _ = found(None, {"fixed": DRAWS["fixed"]})
    assert (worst.rhat, worst.ess) == (None, None)


def test_names_cannot_steer_the_terminal():
    worst, _ = found(None, {"a\x1b[2J": DRAWS["mu"]})
    assert "\x1b" not in worst.rhat_of
