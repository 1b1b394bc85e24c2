"""A criterion by which sampling stops before all draws are made: R-hat and effective sizes."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from checkpoint.errors import ArgumentError
from checkpoint.reading.convergence import name_of_quantity
from checkpoint.reading.diagnostics import MIN_DRAWS, ess_tail, rhat_and_ess
from checkpoint.reading.view import View

__all__ = ["Until", "until"]


def until(
    rhat: float | None = 1.01,
    ess_bulk: float | None = 400,
    ess_tail: float | None = 400,
    var_names: str | Sequence[str] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> "Until":
    """Return a criterion for ``checkpoint.sample(..., until=...)``: stop when it is met.

    It is met when each number of the chosen variables has at most this R-hat, and at least these
    effective sample sizes, over the draws of all chains after warm-up. The defaults are those
    that Vehtari et al., "Rank-normalization, folding, and localization", Bayesian Analysis 16 (2),
    2021, recommend for four chains. It can be called with any run that `checkpoint.open` returns.

    Parameters
    ----------
    rhat : float, optional
        Largest rank-normalised split R-hat. None leaves it out, as it must for one chain.
    ess_bulk : float, optional
        Smallest effective sample size in the bulk, over all chains. None leaves it out.
    ess_tail : float, optional
        Smallest effective sample size of the quantiles of 5 % and 95 %. None leaves it out.
    var_names : str or sequence of str, optional
        Recorded variables to look at. The default is all.
    coords : mapping of str to object, optional
        Labels to choose along dimensions, as in ArviZ and in xarray's ``sel``.

    Returns
    -------
    Until

    Raises
    ------
    ArgumentError
        If a bound is no number that can be met, or all are left out.

    Examples
    --------
    >>> until(ess_bulk=1000, var_names="mu")
    until(rhat=1.01, ess_bulk=1000, ess_tail=400, var_names=['mu'])
    """
    return Until(rhat, ess_bulk, ess_tail, var_names, coords)


_NAMES = ("rhat", "ess_bulk", "ess_tail")


class Until:
    """Whether the draws of a run are good enough; `until` makes it, and describes the parameters.

    Attributes
    ----------
    bounds : dict of str to float
        By name; those that are left out are missing.
    var_names : list of str or None
    coords : dict
    """

    def __init__(
        self,
        rhat: float | None,
        ess_bulk: float | None,
        ess_tail: float | None,
        var_names: str | Sequence[str] | None,
        coords: Mapping[str, Any] | None,
    ) -> None:
        given = {"rhat": (rhat, 1.0), "ess_bulk": (ess_bulk, 0.0), "ess_tail": (ess_tail, 0.0)}
        self.bounds = {
            name: _bound(name, value, least)
            for name, (value, least) in given.items()
            if value is not None
        }
        if not self.bounds:
            raise ArgumentError(
                "until: rhat, ess_bulk and ess_tail are all None, so nothing would ever be met. "
                "Give one of them a number."
            )
        self.var_names = [var_names] if isinstance(var_names, str) else var_names
        if self.var_names is not None:
            self.var_names = [str(name) for name in self.var_names]
        self.coords = dict(coords or {})
        self._suspect = ""

    def __repr__(self) -> str:
        given: dict[str, Any] = {name: self.bounds.get(name) for name in _NAMES}
        given |= {"var_names": self.var_names} if self.var_names is not None else {}
        given |= {"coords": self.coords} if self.coords else {}
        return f"until({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __call__(self, run: View) -> bool:
        """Return whether a run meets the criterion."""
        return not self.lacks(run)

    def lacks(self, run: View) -> str:
        """Return one quantity of a run that does not meet the criterion; empty if all do.

        Numbers that are the same in all draws of all chains are left out: nothing is estimated.
        """
        quantities = dict(_quantities(run.posterior_of(self.var_names), self.coords))
        # The one that did not meet it last time comes first: it is the likeliest not to now.
        names = sorted(quantities, key=lambda name: name != self._suspect)
        for name in names:
            if text := self._lack(quantities[name]):
                self._suspect = name
                return text.format(name=name)
        return "" if quantities else "no number of the variables is recorded"

    def _lack(self, draws: np.ndarray[Any, Any]) -> str:
        if draws.shape[1] < MIN_DRAWS:
            return f"each chain has {draws.shape[1]} draws"
        if not np.isfinite(draws).all():
            return "{name} has draws that are not finite"
        if np.ptp(draws) == 0:
            return ""
        rhat, bulk = rhat_and_ess(draws)
        if "rhat" in self.bounds and not rhat <= self.bounds["rhat"]:
            return f"R-hat of {{name}} is {rhat:.3f}"
        if "ess_bulk" in self.bounds and not bulk >= self.bounds["ess_bulk"]:
            return f"the bulk ESS of {{name}} is {bulk:.0f}"
        if "ess_tail" in self.bounds and not (tail := ess_tail(draws)) >= self.bounds["ess_tail"]:
            return f"the tail ESS of {{name}} is {tail:.0f}"
        return ""


def _bound(name: str, value: Any, least: float) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool)
    if not is_number or not least < float(value) < float("inf"):
        raise ArgumentError(
            f"until: {name}={value!r}: expected a number of more than {least:g}, or None."
        )
    return value  # type: ignore[no-any-return]  # shown as it was given


def _quantities(
    dataset: Any, coords: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the draws of each number, ``(n_chains, n_draws)``, by name; small variables first."""
    arrays = [dataset[name] for name in dataset.data_vars if dataset[name].dtype.kind in "fiub"]
    for array in sorted(arrays, key=lambda array: array.size):
        chosen = array.sel({dim: labels for dim, labels in coords.items() if dim in array.dims})
        values = np.asarray(chosen, dtype=float)
        shape = values.shape[2:]
        values = values.reshape(*values.shape[:2], -1)
        for at in range(values.shape[2]):
            yield name_of_quantity(str(array.name), shape, at), values[:, :, at]
