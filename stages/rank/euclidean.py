"""The best candidates for each row's nearest neighbours, from tiles of products of rows in float32.

Distances are symmetric: a tile serves its rows and its columns, and half of all products are enough. A tile is passed over
once each way, for the few distances that beat what a row has. numba compiles the scans on first use, in seconds, and
keeps them beside this file; import this module where it is called.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

WIDTH = 64  # distances compared between two looks at whether one is near enough
RELAXED = {"nnan", "ninf", "nsz"}  # distances are finite: without rules for NaN the comparisons become vector instructions


@numba.njit(cache=True, nogil=True)
def _place(best: Any, who: Any, distance: Any, other: Any) -> None:
    """Put a distance that is under the last of `best`, ascending, where it belongs."""
    place = len(best) - 1
    while place > 0 and best[place - 1] > distance:
        best[place], who[place] = best[place - 1], who[place - 1]
        place -= 1
    best[place], who[place] = distance, other


@numba.njit(cache=True, parallel=True, nogil=True, fastmath=RELAXED)
def _scan_rows(products: Any, squares: Any, best: Any, who: Any, first: Any, start: Any) -> None:
    """Update the best of rows first, first + 1, ... from -2 <row, other> [., .] with others start, start + 1, ..."""
    rows, columns = products.shape
    for i in numba.prange(rows):
        mine = first + i
        limit = best[mine, -1]
        for left in range(0, columns, WIDTH):
            right = min(left + WIDTH, columns)
            lowest = np.float32(np.inf)
            for j in range(left, right):
                lowest = min(lowest, products[i, j] + squares[start + j])
            if lowest >= limit:
                continue
            for j in range(left, right):
                distance = products[i, j] + squares[start + j]
                if distance < limit and start + j != mine:
                    _place(best[mine], who[mine], distance, start + j)
                    limit = best[mine, -1]


@numba.njit(cache=True, parallel=True, nogil=True, fastmath=RELAXED)
def _scan_columns(products: Any, squares: Any, best: Any, who: Any, first: Any, start: Any) -> None:
    """Do the same for the columns, whose others are the rows."""
    rows, columns = products.shape
    for strip in numba.prange((columns + WIDTH - 1) // WIDTH):
        left, right = strip * WIDTH, min(strip * WIDTH + WIDTH, columns)
        limits = best[start + left : start + right, -1].copy()
        for i in range(rows):
            square, near = squares[first + i], np.int32(0)
            for j in range(right - left):
                near |= np.int32(products[i, left + j] + square < limits[j])
            if near == 0:
                continue
            for j in range(right - left):
                distance = products[i, left + j] + square
                if distance < limits[j]:
                    mine = start + left + j
                    _place(best[mine], who[mine], distance, first + i)
                    limits[j] = best[mine, -1]


@numba.njit(cache=True, parallel=True, nogil=True, fastmath={"reassoc", *RELAXED})
def exact(rows: Any, others: Any) -> Any:
    """Return the squared distances in float64 [n, c] of rows [n, d] to others of their own [n, c, d]."""
    n, count, d = others.shape
    found = np.empty((n, count))
    for i in numba.prange(n):
        for c in range(count):
            total = 0.0
            for q in range(d):
                apart = np.float64(rows[i, q]) - np.float64(others[i, c, q])
                total += apart * apart
            found[i, c] = total
    return found


class Candidates:
    """The nearest other rows of each of n rows by what has been seen.

    Attributes:
        who: [n, count] positions of the candidates, the nearest first.
        distances: [n, count] their squared distances less the row's own squared length.
    """

    def __init__(self, squares: NDArray[np.float32], count: int) -> None:
        """Take the squared lengths [n] of all rows; count is below n."""
        self._squares = squares
        self.distances = np.full((len(squares), count), np.inf, dtype=np.float32)
        self.who: NDArray[np.int64] = np.zeros((len(squares), count), dtype=np.int64)

    def see(self, products: NDArray[np.float32], first: int, start: int) -> None:
        """Take in a tile [., .] of -2 <row, other>, rows from `first` on and others from `start` on, one tile once."""
        _scan_rows(products, self._squares, self.distances, self.who, first, start)
        if start > first:  # else rows and others are the same
            _scan_columns(products, self._squares, self.distances, self.who, first, start)
