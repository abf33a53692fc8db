"""Leave-one-out accuracy of a nearest-neighbour vote: the slow, honest baseline without a model.

Each sample is given the class of the majority among its k = 5 nearest other samples by Euclidean distance (fewer where
there are fewer); among classes with equally many votes, the one whose voter is nearest wins. In [0, 1].
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Statistics

K = 5
SPARE = 8  # candidates beyond k that a search in float32 hands on to float64
LONGEST = 1e37  # squared length beyond which four of them leave float32
BLOCK_DISTANCES = 1 << 21  # distances held at once: 16 MiB in float64
TILE = 2048  # samples whose products with as many others are held at once: 16 MiB in float32

Indices = NDArray[np.int64]


def neighbours(statistics: Statistics, k: int) -> Indices:
    """Return the k nearest other samples of each sample [n, k] by Euclidean distance, the nearest first.

    Features of float32 are searched in float32, twice as fast; candidates are compared in float64, and samples for which
    the rounding of float32 could have hidden a nearer one are searched again in float64. k is below n.
    """
    if statistics.accelerator:
        return statistics.accelerator.neighbours((block for _, block in statistics.blocks()), statistics.n, k)
    single = statistics.raw(np.zeros(1, dtype=np.int64)).dtype == np.float32
    if not single or statistics.squared_norms.max() > LONGEST or k + SPARE + 1 >= statistics.n:
        return _in_double(statistics, np.arange(statistics.n), k)
    found, certain = _in_single(statistics, k)
    if not certain.all():
        found[~certain] = _in_double(statistics, np.flatnonzero(~certain), k)
    return found


def _in_single(statistics: Statistics, k: int) -> tuple[Indices, NDArray[np.bool_]]:
    """Return the k nearest [n, k] of the k + SPARE + 1 best in float32, and for which samples that is sure [n]."""
    from stages.rank import euclidean  # numba, half a second that readers of the registry need not pay

    n, d = statistics.n, statistics.d
    squares = statistics.squared_norms
    candidates = euclidean.Candidates(squares.astype(np.float32), k + SPARE + 1)

    def centred(start: int) -> NDArray[np.float32]:
        rows = statistics.raw(np.arange(start, min(start + TILE, n)))
        return np.subtract(rows, statistics.mean, dtype=np.float64).astype(np.float32)

    for first in range(0, n, TILE):
        rows = centred(first)  # (<= TILE, d)
        for start in range(first, n, TILE):
            others = rows if start == first else centred(start)
            candidates.see(scipy.linalg.blas.sgemm(-2.0, others.T, rows.T, trans_a=True).T, first, start)
    lengths = np.sqrt(squares)
    found, certain = np.empty((n, k), dtype=np.int64), np.empty(n, dtype=bool)
    size = max(1, BLOCK_DISTANCES // ((k + SPARE) * d))
    for start in range(0, n, size):
        block = slice(start, start + size)
        who = candidates.who[block]
        apart = euclidean.exact(statistics.raw(np.arange(n)[block]), statistics.raw(who.ravel()).reshape(*who.shape, d))
        order = np.argsort(apart, axis=1, kind="stable")[:, :k]
        found[block] = np.take_along_axis(who, order, axis=1)
        # Whatever was not picked is at least as far as the last that was, by the same rounding.
        beyond = candidates.distances[block, -1] + squares[block]
        # Rounding of a sum of d products of rounded rows, at its worst (Higham, Accuracy and Stability, 3.1).
        rounding = (d + 4) * 2.0**-24 * (lengths[block] + lengths.max()) ** 2
        certain[block] = np.take_along_axis(apart, order[:, -1:], axis=1)[:, 0] < beyond - rounding
    return found, certain


def _in_double(statistics: Statistics, chosen: Indices, k: int) -> Indices:
    """Return the k nearest of some samples [len(chosen), k], from distances in float64."""
    found = np.empty((len(chosen), k), dtype=np.int64)
    size = max(1, BLOCK_DISTANCES // statistics.n)
    for start in range(0, len(chosen), size):
        block = chosen[start : start + size]
        own = np.subtract(statistics.raw(block), statistics.mean, dtype=np.float64)
        distances = np.empty((len(block), statistics.n))
        for rows, others in statistics.blocks():
            distances[:, rows] = scipy.linalg.blas.dgemm(-2.0, own.T, others.T, trans_a=True)
        distances += statistics.squared_norms
        distances[np.arange(len(block)), block] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
        found[start : start + size] = np.take_along_axis(nearest, order, axis=1)
    return found


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return None, "the features are constant: no sample is nearer than another"
    k = min(K, statistics.n - 1)
    voters = statistics.labels[neighbours(statistics, k)]  # (n, k)
    votes = (voters[:, :, None] == voters[:, None, :]).sum(axis=2)  # (n, k): votes for each voter's own class
    winner = votes.argmax(axis=1)  # the first of equals is the nearest
    right = voters[np.arange(statistics.n), winner] == statistics.labels
    singles = int((statistics.counts == 1).sum())
    fewer = f"only {k} neighbours, not {K}" if k < K else None
    alone = f"{singles} classes of one sample are always missed" if singles else None
    return float(right.mean()), joined(fewer, alone)


knn = Metric(_measure)
