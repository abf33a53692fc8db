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
    """Return the k nearest [n, k] of the k + SPARE best in float32, and for which samples that is sure [n]."""
    n, d = statistics.n, statistics.d
    rows = np.concatenate([block.astype(np.float32) for _, block in statistics.blocks()])  # (n, d)
    lengths = np.sqrt(statistics.squared_norms)
    squares = statistics.squared_norms.astype(np.float32)
    size = max(1, BLOCK_DISTANCES // max(n, (k + SPARE) * d))
    found, certain = np.empty((n, k), dtype=np.int64), np.empty(n, dtype=bool)
    for start in range(0, n, size):
        block = np.arange(start, min(start + size, n))
        distances = scipy.linalg.blas.sgemm(-2.0, rows.T, rows[block].T, trans_a=True).T  # (<= size, n), less |row|^2
        distances += squares
        distances[np.arange(len(block)), block] = np.inf
        candidates = np.argpartition(distances, k + SPARE, axis=1)[:, : k + SPARE + 1]
        approximate = np.take_along_axis(distances, candidates, axis=1)
        last = approximate.argmax(axis=1)[:, None]  # whatever was not picked is at least this far, by the same rounding
        own = statistics.squared_norms[block]
        beyond = np.take_along_axis(approximate, last, axis=1)[:, 0] + own
        others = statistics.raw(candidates.ravel()).reshape(*candidates.shape, d)
        apart = np.subtract(others, statistics.raw(block)[:, None], dtype=np.float64)
        exact = np.einsum("bcd,bcd->bc", apart, apart)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        found[block] = np.take_along_axis(candidates, order, axis=1)
        # Rounding of a sum of d products of rounded rows, at its worst (Higham, Accuracy and Stability, 3.1).
        rounding = (d + 4) * 2.0**-24 * (lengths[block] + lengths.max()) ** 2
        certain[block] = exact[np.arange(len(block)), order[:, -1]] < beyond - rounding
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
