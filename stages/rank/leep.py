"""LEEP: how well the source head's probabilities, mapped to target classes by counting, explain the target labels.

Nguyen et al., ICML 2020, arXiv 2002.12462: with p(y, z) = mean_i [y_i = y] P_iz and p(y|z) = p(y, z) / p(z),

    score = mean_i ln sum_z p(y_i|z) P_iz  <= 0
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Finding, Metric
from stages.rank.statistics import Statistics


def _measure(statistics: Statistics) -> Finding:
    probabilities = statistics.probabilities
    assert probabilities is not None
    joint = np.zeros((statistics.n_classes, probabilities.shape[1]))  # (C, S)
    np.add.at(joint, statistics.labels, probabilities)
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    # A source class of no mass adds nothing; every sample's own mass keeps its likelihood above 0.
    likelihood = np.einsum("nz,nz->n", probabilities, conditional[statistics.labels])
    warning = "the source head has one class" if probabilities.shape[1] == 1 else None
    return min(float(np.log(likelihood).mean()), 0.0), warning


leep = Metric(_measure, needs_source_probabilities=True)
