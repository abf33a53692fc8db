"""Leave-one-out accuracy of a nearest-neighbour vote: the slow, honest baseline without a model.

Each sample is given the class of the majority among its k = 5 nearest other samples by Euclidean distance (fewer where
there are fewer); among classes with equally many votes, the one whose voter is nearest wins. In [0, 1].
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Float, Statistics

K = 5
BLOCK_DISTANCES = 1 << 21  # distances held at once: 16 MiB


def neighbours(rows: Float, k: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return the k nearest other rows of each row [n, k], the nearest first, for centred rows [n, d]."""
    squares = np.einsum("nd,nd->n", rows, rows)
    size = max(1, BLOCK_DISTANCES // len(rows))
    found = np.empty((len(rows), k), dtype=np.intp)
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        distances = scipy.linalg.blas.dgemm(-2.0, rows.T, rows[block].T, trans_a=True).T  # (<= size, n)
        distances += squares
        distances[np.arange(block.stop - start), np.arange(start, block.stop)] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
        found[block] = np.take_along_axis(nearest, order, axis=1)
    return found


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return None, "the features are constant: no sample is nearer than another"
    k = min(K, statistics.n - 1)
    rows = np.concatenate([block for _, block in statistics.blocks()])
    voters = statistics.labels[neighbours(rows, k)]  # (n, k)
    votes = (voters[:, :, None] == voters[:, None, :]).sum(axis=2)  # (n, k): votes for each voter's own class
    winner = votes.argmax(axis=1)  # the first of equals is the nearest
    right = voters[np.arange(statistics.n), winner] == statistics.labels
    singles = int((statistics.counts == 1).sum())
    fewer = f"only {k} neighbours, not {K}" if k < K else None
    alone = f"{singles} classes of one sample are always missed" if singles else None
    return float(right.mean()), joined(fewer, alone)


knn = Metric(_measure)
