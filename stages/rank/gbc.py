"""GBC: minus the overlap of the classes, each seen as a diagonal Gaussian.

Pandy et al., CVPR 2022, arXiv 2111.12780: after PCA to 64 dimensions, minus the sum over ordered pairs of classes of
exp(-D_B), with the Bhattacharyya distance of Gaussians with diagonal covariances,

    D_B = 1/8 sum_j (mu_1j - mu_2j)^2 / s_j + 1/2 sum_j ln(s_j / sqrt(s_1j s_2j)),    s = (s_1 + s_2) / 2

In [-C (C - 1), 0]; 0 is no overlap. Variances have n_c in their denominator.
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Statistics

DIMENSIONS = 64
# Smallest variance, as a share of the first principal one: a class of one sample is a narrow Gaussian, not a point.
FLOOR = 1e-6


def _measure(statistics: Statistics) -> Finding:
    classes = statistics.n_classes
    if statistics.constant:
        return -float(classes * (classes - 1)), "the features are constant"
    rows = statistics.principal(DIMENSIONS)  # (n, k)
    grouped = [rows[statistics.labels == position] for position in range(classes)]
    means = np.stack([group.mean(axis=0) for group in grouped])  # (C, k)
    floor = FLOOR * statistics.spectrum.values[0] / statistics.n
    variances = np.maximum(np.stack([group.var(axis=0) for group in grouped]), floor)  # (C, k)
    logs = np.log(variances)
    overlap = 0.0
    for one in range(classes - 1):
        middle = (variances[one] + variances[one + 1 :]) / 2  # (C - 1 - one, k)
        distance = ((means[one] - means[one + 1 :]) ** 2 / middle).sum(axis=1) / 8
        distance += (np.log(middle) - (logs[one] + logs[one + 1 :]) / 2).sum(axis=1) / 2
        overlap += 2 * float(np.exp(-distance).sum())
    singles = int((statistics.counts == 1).sum())
    narrow = f"{singles} classes of one sample are given the smallest variance" if singles else None
    apart = "no two classes overlap: the score is at its upper limit" if overlap < 1e-12 else None
    return -overlap, joined(narrow, apart)


gbc = Metric(_measure)
