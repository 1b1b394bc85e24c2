"""The worst R-hat and effective sample size among the variables of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from checkpoint.errors import ArgumentError
from checkpoint.printable import printable
from checkpoint.reading.diagnostics import MIN_DRAWS, rhat_and_ess

__all__ = ["Convergence", "convergence", "most_values", "name_of_quantity"]

_QUICK = 500_000
"""Draws that are looked at, over chains and quantities, unless all are asked for."""

_MOST_READ = 8
"""A variable is read whole; one of more than so many times what is left is not."""


@dataclass(frozen=True)
class Convergence:
    """The worst R-hat and effective sample size over quantities of a run, after warm-up.

    Attributes
    ----------
    rhat : float or None
        Largest rank-normalised split R-hat; None for one chain.
    rhat_of : str
        The quantity that has it: a variable, with an index if it is an array.
    ess : float or None
        Smallest effective sample size in the bulk.
    ess_of : str
    n_quantities : int
        Numbers of the recorded variables that were looked at.
    n_of : int
        Numbers that the recorded variables have.
    chains, draws : int
        Chains that were looked at, and draws of each.
    """

    rhat: float | None
    rhat_of: str
    ess: float | None
    ess_of: str
    n_quantities: int
    n_of: int
    chains: int
    draws: int


def most_values(diagnostics: str) -> int | None:
    """Return how many draws the argument `diagnostics` allows to look at; None if all.

    Raises
    ------
    ArgumentError
        If it is none of the words.
    """
    limits = {"none": 0, "quick": _QUICK, "all": None}
    if diagnostics not in limits:
        raise ArgumentError(
            f"diagnostics={diagnostics!r}: expected 'none', 'quick' or 'all'. Nothing was changed."
        )
    return limits[diagnostics]


def convergence(
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray[Any, Any]],
    chains: int,
    draws: int,
    limit: int | None,
) -> Convergence | None:
    """Return the worst values over the variables; None if there are too few draws, or no room.

    Small variables come first: the parameters that others depend on are among them.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape of one draw of each variable.
    read : callable
        Returns the draws of a variable, ``(n_chains, n_draws, *shape)``.
    chains, draws : int
    limit : int or None
        Draws to look at, over all chains and quantities.
    """
    n_each = chains * draws
    if draws < MIN_DRAWS or limit == 0:
        return None
    left = None if limit is None else limit // n_each
    rhats: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for name in sorted(shapes, key=lambda name: prod(shapes[name])):
        n_numbers = prod(shapes[name])
        if left is not None and (left < 1 or n_numbers > _MOST_READ * left):
            break
        values = np.asarray(read(name), dtype=float).reshape(chains, draws, n_numbers)
        n_taken = n_numbers if left is None else min(left, n_numbers)
        for at in range(n_taken):
            quantity = name_of_quantity(name, shapes[name], at)
            rhats[quantity], sizes[quantity] = rhat_and_ess(values[:, :, at])
        left = None if left is None else left - n_taken
    if not rhats:
        return None
    rhat, rhat_of = _extreme(rhats, max)
    ess, ess_of = _extreme(sizes, min)
    n_of = sum(map(prod, shapes.values()))
    return Convergence(rhat, rhat_of, ess, ess_of, len(rhats), n_of, chains, draws)


def _extreme(values: Mapping[str, float], choose: Any) -> tuple[float | None, str]:
    known = {name: value for name, value in values.items() if np.isfinite(value)}
    if not known:
        return None, ""
    name = choose(known, key=known.__getitem__)
    return known[name], name


def name_of_quantity(variable: str, shape: tuple[int, ...], at: int) -> str:
    """Return the name of a number of a variable, with its index in an array, as it may be shown.

    >>> name_of_quantity("theta", (2, 3), 4)
    'theta[1, 1]'
    """
    if not shape:
        return printable(variable)
    index = ", ".join(str(i) for i in np.unravel_index(at, shape))
    return f"{printable(variable)}[{index}]"
