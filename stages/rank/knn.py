"""Leave-one-out accuracy of the nearest neighbours: slow, honest, and free of assumptions."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from stages.rank.metric import Metric
from stages.rank.statistics import Statistics

NEIGHBOURS = 5
_BLOCK = 2**22  # distances held at once, 32 MiB


def knn(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return the share of rows whose class has most votes among the 5 nearest other rows, Euclidean.

    Equal votes go to the class whose nearest member is nearer, equal distances to the row that comes first.
    """
    if statistics.n < 2:
        return None, "needs two rows"
    rows, labels, classes = statistics.features, statistics.labels, len(statistics.counts)
    k = min(NEIGHBOURS, statistics.n - 1)
    step = max(1, _BLOCK // statistics.n)
    right = 0
    for start in range(0, statistics.n, step):
        block = cdist(rows[start : start + step], rows)
        own = np.arange(len(block))
        block[own, start + own] = np.inf
        nearest = np.argsort(block, axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(block), classes))
        for place in range(k):
            # A vote counts 1, and a nearer one a little more: it decides only between equal numbers of votes.
            votes[own, labels[nearest[:, place]]] += 1 + 2.0 ** -(place + k)
        right += int(np.count_nonzero(votes.argmax(axis=1) == labels[start : start + step]))
    alone = int(np.count_nonzero(statistics.counts == 1))
    warning = f"{alone} classes of one sample, which can never be right" if alone else None
    return right / statistics.n, warning


KNN = Metric(knn)
