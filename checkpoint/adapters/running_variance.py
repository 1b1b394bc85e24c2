"""Compute PyMC's adapted diagonal mass matrix after any draw from the recorded draws.

PyMC estimates the matrix from a window of draws, in the foreground, while it gathers the next
estimate in the background. So the matrix depends on the draws of the last windows only.
The updates here are PyMC's, operation by operation (`QuadPotentialDiagAdapt.update` and
`_WeightedVariance.add_sample`), since the result must be equal to the last bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Adaptation", "Estimate"]

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimate:
    """The attributes of a potential after some updates.

    Attributes
    ----------
    mean, raw_var : ndarray
        Mean and sum of squared deviations of foreground and background, ``(2, n)``.
    n_samples : tuple of float
        Weights of foreground and background.
    window : int
        Current length of a window: draws between two changes of the foreground.
    var, stds, inv_stds : ndarray
        Variances, standard deviations and their inverses that the sampler uses, ``(n,)``.
    """

    mean: Values
    raw_var: Values
    n_samples: tuple[float, float]
    window: int
    var: Values
    stds: Values
    inv_stds: Values


@dataclass(frozen=True)
class Adaptation:
    """The settings of a potential's adaptation.

    Attributes
    ----------
    initial_mean, initial_diag : ndarray
    initial_weight : float
    window : int
        Length of the first window, in draws.
    multiplier : float
        Factor by which a window grows at its end.
    n_discarded : int
        Index of the last update that is discarded.
    early_update : bool
        Whether the matrix already changes within the first window.
    dtypes : tuple of str
        Types of `var`, `stds` and `inv_stds`.
    """

    initial_mean: Values
    initial_diag: Values
    initial_weight: float
    window: int
    multiplier: float
    n_discarded: int
    early_update: bool
    dtypes: tuple[str, str, str]

    def after(self, n_updates: int, samples: Callable[[int, int], Values]) -> Estimate:
        """Return the attributes of the potential after its first updates.

        Parameters
        ----------
        n_updates : int
            Number of updates.
        samples : callable
            Takes a range of updates, ``start, stop``; returns samples ``(stop - start, n)``.
        """
        last, swaps = self._schedule(n_updates)
        begins = [0, *(swap + 1 for swap in swaps)]
        # The foreground began two changes ago; the one behind the last new matrix may be older.
        first = begins[max(0, len(begins) - 2)]
        if last is not None:
            first = min(first, begins[max(0, sum(swap < last for swap in swaps) - 1)])
        n_before = sum(swap < first for swap in swaps)
        window = self.window
        for _ in range(n_before):
            window = int(window * self.multiplier)
        mean, raw_var, n_samples = self._initial_windows(is_first=n_before == 0)
        matrix = self._initial_matrix()
        old, new = np.empty_like(mean), np.empty_like(mean)
        for k, sample in enumerate(samples(first, n_updates), start=first):
            if k > self.n_discarded:
                n_samples += 1
                np.subtract(sample, mean, out=old)
                np.divide(old, n_samples, out=new)
                mean += new
                np.subtract(sample, mean, out=new)
                np.multiply(old, new, out=new)
                raw_var += new
            if k == last:
                matrix = self._matrix(raw_var[0], float(n_samples[0, 0]))
            if k > 0 and k % window == 0:
                mean[0], raw_var[0], n_samples[0] = mean[1], raw_var[1], n_samples[1]
                mean[1], raw_var[1], n_samples[1] = 0, 0, 0
                window = int(window * self.multiplier)
        weights = (float(n_samples[0, 0]), float(n_samples[1, 0]))
        return Estimate(mean, raw_var, weights, window, *matrix)

    def _schedule(self, n_updates: int) -> tuple[int | None, list[int]]:
        """Return the update that last changed the matrix, and those that changed the foreground."""
        last, swaps, window = None, [], self.window
        for k in range(n_updates):
            if self.early_update or k > window:
                last = k
            if k > 0 and k % window == 0:
                swaps.append(k)
                window = int(window * self.multiplier)
        return last, swaps

    def _initial_windows(self, is_first: bool) -> tuple[Values, Values, Values]:
        n = len(self.initial_mean)
        mean, raw_var, n_samples = np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, 1))
        if is_first:
            mean[0] = self.initial_mean
            raw_var[0] = self.initial_diag
            raw_var[0] *= float(self.initial_weight)
            n_samples[0] = self.initial_weight
        return mean, raw_var, n_samples

    def _initial_matrix(self) -> tuple[Values, Values, Values]:
        var = np.array(self.initial_diag, dtype=self.dtypes[0])
        stds = np.sqrt(self.initial_diag)
        inv_stds = np.dtype(self.dtypes[2]).type(1.0) / stds
        return var, stds.astype(self.dtypes[1]), inv_stds.astype(self.dtypes[2])

    def _matrix(self, raw_var: Values, n_samples: float) -> tuple[Values, Values, Values]:
        var, stds, inv_stds = (np.empty(len(raw_var), dtype=dtype) for dtype in self.dtypes)
        np.divide(raw_var, n_samples, out=var, casting="same_kind")
        var = np.clip(var, 1e-12, 1e12)
        np.sqrt(var, out=stds)
        np.divide(1, stds, out=inv_stds)
        return var, stds, inv_stds
