"""LEEP (Nguyen et al., ICML 2020, arXiv 2002.12462) and NCE (Tran et al., ICCV 2019, arXiv 1908.08142).

Both read only the source head's probabilities P [N, S]. With z = argmax P,

    NCE  = sum_{y,z} p(y, z) ln p(y | z),
    LEEP = mean_i ln sum_z p(y_i | z) P_iz,    p(y, z) = 1/N sum_{i: y_i = y} P_iz.
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Metric
from stages.rank.statistics import Real, Statistics


def _joint(statistics: Statistics, weights: Real) -> Real:
    """Return p(y, z) [c, s] of weights [n, s] whose rows sum to 1."""
    return statistics.class_sums(weights) / statistics.n


def _probabilities(statistics: Statistics) -> Real:
    if statistics.source_probabilities is None:
        raise ValueError("no source-class probabilities")
    return statistics.source_probabilities


def leep(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return LEEP, at most 0; 0 for a head that tells the target's classes without doubt."""
    probabilities = _probabilities(statistics)
    joint = _joint(statistics, probabilities)
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)  # (c, s)
    expected = (conditional[statistics.labels] * probabilities).sum(axis=1)  # (n,)
    return float(np.log(expected).mean()), None


def nce(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return NCE, minus the conditional entropy of target labels given predicted source labels; at most 0."""
    probabilities = _probabilities(statistics)
    assigned = np.zeros_like(probabilities)
    assigned[np.arange(statistics.n), probabilities.argmax(axis=1)] = 1
    joint = _joint(statistics, assigned)
    marginal = np.broadcast_to(joint.sum(axis=0), joint.shape)
    seen = joint > 0
    value = float((joint[seen] * np.log(joint[seen] / marginal[seen])).sum())
    used = int(np.count_nonzero(joint.sum(axis=0)))
    return value, "the head predicts one source class for every image" if used == 1 else None


LEEP = Metric(leep, needs_source_head=True)
NCE = Metric(nce, needs_source_head=True)
