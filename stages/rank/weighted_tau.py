"""Weighted Kendall correlation of many resamples at once: what `scipy.stats.weightedtau` gives one at a time.

Vigna, WWW 2015: tau = <r, s> / (||r|| ||s||) with <r, s> the sum over pairs of (w_i + w_j) sign(r_i - r_j) sign(s_i - s_j),
w = 1 / (1 + rank), averaged over ranking by r and by s, ties in one broken by the other. With w additive, a pair's weight
splits into its members', so that a sum over pairs is one over members of their signed counts: no loop over resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME = 1e-12  # relative spread under which values count as equal
PAIRS = 1 << 24  # pairs compared at once, one byte each in a few arrays

Float = NDArray[np.float64]


def weighted_taus(x: Float, y: Float) -> Float:
    """Return the weighted Kendall correlation [b] of each row of x and y [b, n]; NaN where x or y has no order.

    A member that is NaN in x or y takes no part, so that rows may be of different lengths.
    """
    size = max(1, PAIRS // max(1, x.shape[1]) ** 2)
    parts = [_taus(x[start : start + size], y[start : start + size]) for start in range(0, len(x), size)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _taus(x: Float, y: Float) -> Float:
    present = ~(np.isnan(x) | np.isnan(y))  # (b, n)
    x, y = np.where(present, x, -np.inf), np.where(present, y, -np.inf)
    both = present[:, :, None] & present[:, None, :]
    sign_x, sign_y = _signs(x) * both, _signs(y) * both  # (b, n, n)
    concordance = np.einsum("bij,bij->bi", sign_x, sign_y, dtype=np.int64)
    unequal_x, unequal_y = (np.count_nonzero(sign, axis=2) for sign in (sign_x, sign_y))
    taus = np.zeros(len(x))
    with np.errstate(divide="ignore", invalid="ignore"):
        for first, second in ((x, y), (y, x)):
            weight = 1 / (1 + _ranks(first, second))
            length = np.sqrt((weight * unequal_x).sum(axis=1)) * np.sqrt((weight * unequal_y).sum(axis=1))
            taus += (weight * concordance).sum(axis=1) / length / 2
    ordered = _spread(x, present) & _spread(y, present)
    return np.where(ordered, np.clip(taus, -1, 1), np.nan)


def _signs(values: Float) -> NDArray[np.int8]:
    left, right = values[:, :, None], values[:, None, :]
    return (left > right).astype(np.int8) - (left < right).astype(np.int8)


def _ranks(first: Float, second: Float) -> NDArray[np.int64]:
    """Return the ranks [b, n], 0 for the largest, equals in `first` by `second`; members that are absent come last."""
    order = np.lexsort((-second, -first), axis=-1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    return ranks


def _spread(values: Float, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say for each row whether its present values differ by more than rounding."""
    if not values.shape[1]:
        return np.zeros(len(values), dtype=bool)
    high = np.where(present, values, -np.inf).max(axis=1)
    low = np.where(present, values, np.inf).min(axis=1)
    return np.asarray(high - low > SAME * np.maximum(np.abs(high), np.abs(low)))
