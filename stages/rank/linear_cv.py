"""Cross-validated accuracy of a linear classifier: what a linear probe would reach, fitted five times over.

Softmax regression, |W|^2 / 2 beside the summed log loss, on features centred and divided by one number so that they have
variance 1 on average: neither scale nor rotation matters. Five folds: each class's samples, in the order of their distance
to the mean of all, are dealt to the folds in turn, so that folds are alike and nothing depends on the order of the rows.
Accuracy over all samples, each predicted by the fit without its fold, in [0, 1]. Beyond 10,000 samples as many are taken
evenly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.rank import softmax_regression
from stages.rank.metric import Finding, Metric, joined
from stages.rank.sampling import evenly, on_own_axes, said
from stages.rank.statistics import Statistics

FOLDS = 5
MOST = 10_000
TOLERANCE = 1e-6


def folds(labels: NDArray[np.int64], distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the fold of each sample [n], dealt out within each class in the order of distance."""
    order = np.lexsort((distances, labels))
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))[:-1]])
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = (np.arange(len(labels)) - starts[labels[order]]) % FOLDS
    return found


def _measure(statistics: Statistics) -> Finding:
    singles = int((statistics.counts == 1).sum())
    lonely = f"{singles} classes of one sample are always missed" if singles else None
    few = int(((statistics.counts > 1) & (statistics.counts < FOLDS)).sum())
    sparse = f"{few} classes have fewer than {FOLDS} samples" if few else None
    if statistics.constant:
        return None, joined("the features are constant", lonely)
    chosen = evenly(statistics, MOST)
    labels = statistics.labels[chosen]
    if len(np.unique(labels)) < 2 or singles == statistics.n_classes:
        return None, joined("no class has two samples", lonely)
    rows = on_own_axes(statistics, chosen)
    rows /= np.sqrt(float(statistics.spectrum.values.sum()) / statistics.n / statistics.d)
    fold = folds(labels, statistics.squared_norms[chosen])
    right, unfinished = 0, 0
    for held_out in range(min(FOLDS, int(fold.max()) + 1)):
        inside = fold != held_out
        present, positions = np.unique(labels[inside], return_inverse=True)
        middle = rows[inside].mean(axis=0)
        count = int(inside.sum())
        found = softmax_regression.fit(
            rows[inside] - middle, positions, len(present), np.full(rows.shape[1], 1 / count), TOLERANCE
        )
        unfinished += not found.converged
        predicted = present[((rows[~inside] - middle) @ found.weights + found.offsets).argmax(axis=1)]
        right += int((predicted == labels[~inside]).sum())
    stopped = f"{unfinished} of the fits stopped before their minimum" if unfinished else None
    return right / len(chosen), joined(lonely, sparse, stopped, said(statistics, chosen))


linear_cv = Metric(_measure)
