"""H-score: how much of the features' variance the class means explain, each direction weighed by its own variance.

H-score (Bao et al., ICIP 2019): tr(pinv(cov F) cov(E[F|y])), in [0, min(C - 1, d)]. Regularised H-score (Ibrahim et al.,
ECML 2022, arXiv 2110.06893): cov F is shrunk by Ledoit and Wolf's a towards a multiple of the identity, cov g = cov(E[F|y])
has n - 1 in its denominator: tr(pinv(cov_a F) (1 - a) cov g).
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Finding, Metric
from stages.rank.statistics import Float, Statistics

CONSTANT = "the features are constant"


def _between(statistics: Statistics) -> Float:
    """Return the scatter of the class means along each principal axis [k]: sum_c n_c <v, mean_c - mean>^2."""
    return np.asarray((statistics.spectrum.class_sums**2 / statistics.counts).sum(axis=1))


def shrinkage(statistics: Statistics) -> float:
    """Return Ledoit and Wolf's shrinkage in [0, 1] (Journal of Multivariate Analysis 88, 2004, lemma 3.2-3.4)."""
    n, d = statistics.n, statistics.d
    variances = statistics.spectrum.values / n  # (k,) of the covariance with n in its denominator
    square = float(variances @ variances)
    distance = square / d - (float(variances.sum()) / d) ** 2
    noise = (float((statistics.squared_norms**2).mean()) - square) / (n * d)
    return 0.0 if d == 1 or distance <= 0 else float(np.clip(noise / distance, 0, 1))


def _plain(statistics: Statistics) -> Finding:
    if statistics.constant:
        return 0.0, CONSTANT
    warning = None
    if statistics.n <= statistics.d:
        warning = f"no more samples than dimensions ({statistics.n} <= {statistics.d}): the score is C - 1 or near it"
    return float((_between(statistics) / statistics.spectrum.values).sum()), warning


def _regularised(statistics: Statistics) -> Finding:
    if statistics.constant:
        return 0.0, CONSTANT
    n, values = statistics.n, statistics.spectrum.values
    a = shrinkage(statistics)
    variances = (1 - a) * values / n + a * float(values.sum()) / n / statistics.d
    warning = "the covariance is all shrinkage: too few samples to see any structure" if a == 1 else None
    return float(((1 - a) * _between(statistics) / (n - 1) / variances).sum()), warning


h_score = Metric(_plain)
regularized_h_score = Metric(_regularised)
