"""NCTI: how far the features are from neural collapse on the target, seen from three sides.

Wang et al., ICCV 2023: with the features' first 64 principal components, the share t = max(exp(-v), 1e-10) where v is the
variance (n - 1 in its denominator) of the first 32, and the within-class covariance A = (1 - t) W + t tr(W) / q I of q of them,

    seli = |H|_*          H: centred components in the discriminant space of A, at most C - 1 dimensions, U'AU = I
    ncc  = mean_i z_i,y_i z_i: posteriors of Gaussian classes of covariance A
    vc   = -sum_c |Z_c|_* Z_c: the posteriors of the samples of class c

and score = minmax(seli) + minmax(ncc) + minmax(vc) over the candidates for one target. In [0, 3], |.|_* being the sum of
singular values. The authors' program takes the logarithm of vc's sum, the paper does not.
"""

from __future__ import annotations

import numpy as np

from stages.rank import fisher
from stages.rank.metric import PoolMetric, joined, min_max
from stages.rank.statistics import Float, Statistics

DIMENSIONS = 64
MEASURED = 32  # components whose variance sets the regularisation
LEAST = 1e-10


def _nuclear(matrix: Float) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _measure(statistics: Statistics) -> tuple[tuple[float, float, float], str | None]:
    prior, labels = fisher.shares(statistics), statistics.labels
    if statistics.constant:
        collapsed = -float(np.sqrt(statistics.counts * (prior**2).sum()).sum())
        return (0.0, float((prior**2).sum()), collapsed), "the features are constant"
    rows = statistics.principal(DIMENSIONS)  # (n, q)
    variances = (rows**2).sum(axis=0) / max(statistics.n - 1, 1)
    share = max(float(np.exp(-variances[:MEASURED].sum())), LEAST)
    centres = np.stack([rows[labels == position].mean(axis=0) for position in range(statistics.n_classes)])  # (C, q)
    # Not from the covariance: where it is singular, a square root of rounding would decide.
    _, lengths, vectors = np.linalg.svd(rows - centres[labels], full_matrices=False)
    within = lengths**2 / statistics.n  # (q,)
    ridge = max(share * float(within.mean()), fisher.ROUNDING * float(variances[0]))
    whiten = vectors.T / np.sqrt((1 - share) * within + ridge)  # (q, q) whiten' A whiten = I
    seen, middles = rows @ whiten, centres @ whiten
    logits = seen @ middles.T - (middles**2).sum(axis=1) / 2 + np.log(prior)
    posterior = fisher.softmax(logits)
    between = np.sqrt(prior)[:, None] * middles  # (C, q), of overall mean 0
    _, _, axes = np.linalg.svd(between, full_matrices=False)
    seli = _nuclear(seen @ axes[: statistics.n_classes - 1].T)
    ncc = min(float(posterior[np.arange(statistics.n), labels].mean()), 1.0)
    vc = -sum(_nuclear(posterior[labels == position]) for position in range(statistics.n_classes))
    few = None
    if statistics.n - statistics.n_classes < rows.shape[1]:
        few = f"too few samples ({statistics.n} for {rows.shape[1]} components): the discriminant fits them"
    return (seli, ncc, vc), joined(few)


def _combine(table: Float) -> Float:
    return np.asarray(min_max(table).sum(axis=1))


ncti = PoolMetric(("seli", "ncc", "vc"), _measure, _combine)
