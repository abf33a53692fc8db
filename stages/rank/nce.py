"""NCE: minus the conditional entropy of the target labels given the source head's predicted class.

Tran et al., ICCV 2019, arXiv 1908.08142: with z = argmax P (the first of equals),

    score = sum_{y, z} p(y, z) ln(p(y, z) / p(z))  <= 0
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Finding, Metric
from stages.rank.statistics import Statistics


def _measure(statistics: Statistics) -> Finding:
    predicted = np.concatenate([block.argmax(axis=1) for _, block in statistics.probability_blocks()])
    pairs, joint = np.unique(np.stack([statistics.labels, predicted]), axis=1, return_counts=True)
    mass = np.bincount(predicted)[pairs[1]]
    warning = "the source head predicts one class for all samples" if len(np.unique(predicted)) == 1 else None
    return float((joint / statistics.n * np.log(joint / mass)).sum()), warning


nce = Metric(_measure, needs_source_probabilities=True)
