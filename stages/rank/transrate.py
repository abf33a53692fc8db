"""TransRate: the rate-distortion estimate of the mutual information of features and labels.

Huang et al., ICML 2022, arXiv 2106.09362: R(F) - mean_c R(F_c) with R(A) = 1/2 ln det(I + A'A / (n_A eps)), eps = 1e-4,
F centred by the mean of all samples.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from stages.rank.metric import Finding, Metric
from stages.rank.statistics import Float, Statistics

EPSILON = 1e-4


def _rate(statistics: Statistics, rows: Float) -> float:
    """Return R of rows [n, d], from the smaller of its two Gram matrices."""
    smaller = rows.T if len(rows) <= rows.shape[1] else rows
    gram = statistics.gram([smaller], smaller.shape[1])
    gram /= len(rows) * EPSILON
    gram[np.diag_indices_from(gram)] += 1
    return float(np.log(np.diagonal(scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False))).sum())


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return 0.0, "the features are constant"
    whole = 0.5 * float(np.log1p(statistics.spectrum.values / (statistics.n * EPSILON)).sum())
    within = float(np.mean([_rate(statistics, statistics.of_class(position)) for position in range(statistics.n_classes)]))
    warning = None
    if statistics.counts.min() < statistics.d:
        few = int((statistics.counts < statistics.d).sum())
        warning = f"{few} classes have fewer samples than dimensions: their rate is too low, and the score too high"
    return whole - within, warning


transrate = Metric(_measure)
