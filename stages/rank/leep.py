"""LEEP: how well the source head's probabilities, mapped to target classes by counting, explain the target labels.

Nguyen et al., ICML 2020, arXiv 2002.12462: with p(y, z) = mean_i [y_i = y] P_iz and p(y|z) = p(y, z) / p(z),

    score = mean_i ln sum_z p(y_i|z) P_iz  <= 0
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Finding, Metric
from stages.rank.statistics import Statistics


def _measure(statistics: Statistics) -> Finding:
    assert statistics.n_source_classes is not None
    joint = np.zeros((statistics.n_classes, statistics.n_source_classes))  # (C, S)
    classes = np.arange(statistics.n_classes)[:, None]
    for rows, block in statistics.probability_blocks():
        joint += (classes == statistics.labels[rows]).astype(np.float64) @ block
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    # A source class of no mass adds nothing; every sample's own mass keeps its likelihood above 0.
    total = 0.0
    for rows, block in statistics.probability_blocks():
        total += float(np.log(np.einsum("nz,nz->n", block, conditional[statistics.labels[rows]])).sum())
    warning = "the source head has one class" if statistics.n_source_classes == 1 else None
    return min(total / statistics.n, 0.0), warning


leep = Metric(_measure, needs_source_probabilities=True)
