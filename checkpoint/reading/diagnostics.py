"""R-hat and effective sample size of draws, for a command that does not wait for ArviZ's import.

Both are rank-normalised, after Vehtari, Gelman, Simpson, Carpenter and Bürkner,
"Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of
MCMC", Bayesian Analysis 16 (2), 2021. The tests compare them with ArviZ's `rhat` and `ess`.
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np

__all__ = ["MIN_DRAWS", "ess_tail", "rhat_and_ess"]

MIN_DRAWS = 10
"""Draws of each chain below which neither says anything."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_NAN = float("nan")


def rhat_and_ess(draws: Array) -> tuple[float, float]:
    """Return R-hat of one quantity, the larger of bulk and tail, and the bulk ESS.

    Parameters
    ----------
    draws : array, shape ``(n_chains, n_draws)``

    Returns
    -------
    tuple of float
        Both are NaN if all draws are equal or some are not finite; R-hat of one chain is NaN.
    """
    if not _is_usable(draws):
        return _NAN, _NAN
    split = _split(draws)
    scores = _normal_scores(split)
    if len(draws) < 2:
        return _NAN, _ess(scores)
    folded = np.abs(split - np.median(split))
    rhat = np.nanmax([_rhat(scores), _rhat(_normal_scores(folded))])
    return float(rhat), _ess(scores)


def ess_tail(draws: Array) -> float:
    """Return the effective sample size in the tails of one quantity, over all chains.

    It is the smaller of those of the quantiles of 5 % and 95 %.

    Parameters
    ----------
    draws : array, shape ``(n_chains, n_draws)``

    Returns
    -------
    float
        NaN if all draws are equal or some are not finite.
    """
    if not _is_usable(draws):
        return _NAN
    below = [draws <= np.quantile(draws, share) for share in (0.05, 0.95)]
    return min(_ess(_split(is_below.astype(float))) for is_below in below)


def _is_usable(draws: Array) -> bool:
    return draws.shape[1] >= MIN_DRAWS and bool(np.isfinite(draws).all() and np.ptp(draws) > 0)


def _split(draws: Array) -> Array:
    """Return both halves of each chain as chains; the draw in the middle of an odd number goes."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _rhat(draws: Array) -> float:
    n_draws = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean()
    if within == 0:
        return _NAN
    between = n_draws * draws.mean(axis=1).var(ddof=1)
    return float(np.sqrt((between / within + n_draws - 1) / n_draws))


def _ess(draws: Array) -> float:
    """Return the effective sample size by Geyer's initial monotone sequence."""
    n_chains, n_draws = draws.shape
    covariance = _autocovariance(draws).mean(axis=0)
    within = covariance[0] * n_draws / (n_draws - 1)
    total = covariance[0] + draws.mean(axis=1).var(ddof=1)
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1
    n_pairs = (n_draws - 1) // 2
    pairs = correlation[: 2 * n_pairs].reshape(n_pairs, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    n_kept = int(negative[0]) if negative.size else n_pairs - 1
    # The pair after the last one counts with its first half, if that is positive.
    rest = max(0.0, float(correlation[2 * n_kept])) if n_kept < n_pairs else 0.0
    time = -1 + 2 * np.minimum.accumulate(pairs[:n_kept]).sum() + rest
    n_total = n_chains * n_draws
    return float(n_total / max(time, 1 / np.log10(n_total)))


def _autocovariance(draws: Array) -> Array:
    n_draws = draws.shape[1]
    size = 1 << (2 * n_draws - 1).bit_length()
    centred = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, size, axis=1)
    products = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :n_draws]
    return np.asarray(products / n_draws)


def _normal_scores(draws: Array) -> Array:
    """Return the normal quantiles of the ranks of all draws; equal draws share their mean rank."""
    flat = draws.ravel()
    order = np.argsort(flat)
    ordered = flat[order]
    differs = ordered[1:] != ordered[:-1]
    scores = np.empty(draws.size)
    if differs.all():
        scores[order] = _scores_of_ranks(draws.size)
    else:
        places = np.concatenate([[0], np.cumsum(differs)])
        counts = np.bincount(places)
        ranks = np.cumsum(counts) - (counts - 1) / 2
        scores[order] = _normal_quantile((ranks - 0.375) / (draws.size + 0.25))[places]
    return scores.reshape(draws.shape)


@lru_cache(maxsize=1)
def _scores_of_ranks(n: int) -> Array:
    return _normal_quantile(np.asarray((np.arange(1, n + 1) - 0.375) / (n + 0.25)))


def _normal_quantile(p: Array) -> Array:
    """Return quantiles of the standard normal; scipy's would have to be imported."""
    return np.fromiter(map(NormalDist().inv_cdf, p.tolist()), float, p.size)
