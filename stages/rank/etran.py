"""ETran: how much the features look like what the encoder knows, and how well they tell the classes apart.

Gholami et al., ICCV 2023, arXiv 2308.02027, for classification:

    energy = mean_i ln sum_j exp(f_ij),    lda = mean_i p(y_i | f_i),    score = minmax(energy) + minmax(lda)

over the candidates for one target, with the regularised discriminant p of `stages.rank.fisher` on the samples it is fitted
on. In [0, 2]. The energy is of the features as they are: it grows with their scale and, by ln d, with their width. The
authors' program weighs the parts 0.15 and 0.85, which is tuned on its benchmark, and takes the energy over the lowest 0.5%
of the samples, of which there are none below 200.
"""

from __future__ import annotations

import numpy as np

from stages.rank import fisher
from stages.rank.metric import PoolMetric, joined, min_max
from stages.rank.statistics import BLOCK_VALUES, Float, Statistics


def energy(statistics: Statistics) -> float:
    """Return the mean over samples of ln sum_j exp(f_ij)."""
    size = max(1, BLOCK_VALUES // statistics.d)
    total = 0.0
    for start in range(0, statistics.n, size):
        block = statistics.raw(np.arange(start, min(start + size, statistics.n))).astype(np.float64)
        top = block.max(axis=1)
        block -= top[:, None]
        np.exp(block, out=block)
        total += float((top + np.log(block.sum(axis=1))).sum())
    return total / statistics.n


def _measure(statistics: Statistics) -> tuple[tuple[float, float], str | None]:
    if statistics.constant:
        return (energy(statistics), float((fisher.shares(statistics) ** 2).sum())), "the features are constant"
    told_apart = min(float(statistics.shared(fisher.first_fit).true.mean()), 1.0)
    return (energy(statistics), told_apart), joined(fisher.saturation(statistics))


def _combine(table: Float) -> Float:
    return np.asarray(min_max(table).sum(axis=1))


etran = PoolMetric(("energy", "lda"), _measure, _combine)
