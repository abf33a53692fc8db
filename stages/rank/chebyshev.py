"""The distance to the k-th nearest neighbour in the Chebyshev norm, exact in any number of dimensions.

In the thousands of dimensions of features a k-d tree visits every pair, and BLAS knows no maximum. But a pair can be left
as soon as one coordinate alone is as far apart as the k-th neighbour found so far, which with the widest dimensions first
happens within the first few hundred. numba compiles the scan on first use, in a second, and keeps it beside this file;
importing it takes half a second, so import this module where it is called.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

SLICE = 256  # dimensions compared between two looks at whether to go on
RELAXED = {"nnan", "ninf", "nsz"}  # features are finite: without rules for NaN the comparisons become vector instructions


@numba.njit(cache=True, fastmath=RELAXED)
def _apart(one: Any, other: Any, limit: Any) -> Any:
    found = np.int32(0)
    for q in range(len(one)):
        found |= np.int32(abs(one[q] - other[q]) >= limit)
    return found != 0


@numba.njit(cache=True, fastmath=RELAXED)
def _farthest(one: Any, other: Any) -> Any:
    most = 0.0
    for q in range(len(one)):
        most = max(most, abs(np.float64(one[q]) - np.float64(other[q])))
    return most


@numba.njit(cache=True, parallel=True, nogil=True)
def _scan(rows: Any, k: int, width: int) -> Any:
    n, d = rows.shape
    found = np.empty(n)
    for i in numba.prange(n):
        best = np.full(k, np.inf)
        limit = rows.dtype.type(np.inf)
        for j in range(n):
            if j == i:
                continue
            start = 0
            while start < d and not _apart(rows[i, start : start + width], rows[j, start : start + width], limit):
                start += width
            if start < d:
                continue
            distance = _farthest(rows[i], rows[j])
            place = k - 1
            if distance >= best[place]:
                continue
            while place > 0 and best[place - 1] > distance:
                best[place] = best[place - 1]
                place -= 1
            best[place] = distance
            limit = rows.dtype.type(best[k - 1])
        found[i] = best[k - 1]
    return found


def kth_distances(rows: NDArray[Any], k: int) -> NDArray[np.float64]:
    """Return each row's Chebyshev distance to its k-th nearest other row [n], for finite rows [n, d] and n > k.

    Distances are exact in float64; rows of float32 are compared in float32, so that of two neighbours that are equally
    far to seven digits either may be taken for the k-th.
    """
    order = np.argsort(rows.min(axis=0) - rows.max(axis=0), kind="stable")
    return np.asarray(_scan(np.ascontiguousarray(rows[:, order]), k, SLICE))
