"""SFDA: how well a Fisher discriminant tells the classes apart once hard samples have been pulled towards other classes.

Shao et al., ECCV 2022, arXiv 2207.03036, with `stages.rank.fisher` for the discriminant p(c | x): each sample is mixed with
the mean o_c of the other classes' means, by the confidence q of a second softmax over the posteriors (which keeps q away
from 1), and the discriminant is fitted again with the same lam:

    q_i = softmax(p(. | x_i))_{y_i},    x~_i = q_i x_i + (1 - q_i) o_{y_i},    score = mean_i p~(y_i | x~_i)

In [0, 1]. The authors' program mixes in place and so spoils its input for whatever reads it next. No logarithm is taken, as
there.
"""

from __future__ import annotations

import numpy as np

from stages.rank import fisher
from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Float, Statistics

CERTAIN = 1e-9


def _refit(statistics: Statistics, fit: fisher.Fit) -> float:
    labels, counts, prior = statistics.labels, statistics.counts, fisher.shares(statistics)
    centres = fisher.centres(statistics)  # (C, w)
    others = (centres.sum(axis=0) - centres) / (statistics.n_classes - 1)
    kept = fit.softened
    sums = np.zeros_like(centres)
    for block, values in fisher.rows(statistics):
        onehot = np.zeros((len(values), statistics.n_classes))
        onehot[np.arange(len(values)), labels[block]] = kept[block]
        sums += onehot.T @ values
    left_out = np.bincount(labels, 1 - kept)
    mixed_centres = (sums + left_out[:, None] * others) / counts[:, None]

    shift = others - mixed_centres

    def residuals(block: slice, values: Float) -> Float:  # x~ less its class's mean
        values -= others[labels[block]]
        values *= kept[block, None]
        values += shift[labels[block]]
        return values

    width = fisher.width(statistics)
    scatter = statistics.gram((residuals(block, values) for block, values in fisher.rows(statistics)), width)
    diagonal = np.diag_indices(width)
    within = float(scatter[diagonal].sum()) / statistics.n
    scatter *= (1 - fit.shrinkage) / statistics.n
    scatter[diagonal] += fisher.ridge(statistics, fit.shrinkage, within)
    coefficients = fisher.solve_symmetric(scatter, mixed_centres.T)  # (w, C)
    offsets = np.log(prior) - np.einsum("cw,wc->c", mixed_centres, coefficients) / 2
    toward, total = others @ coefficients, 0.0
    for block, values in fisher.rows(statistics):
        q = kept[block, None]
        posterior = fisher.softmax(q * (values @ coefficients) + (1 - q) * toward[labels[block]] + offsets)
        total += float(posterior[np.arange(len(posterior)), labels[block]].sum())
    return total / statistics.n


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return float((fisher.shares(statistics) ** 2).sum()), "the features are constant"
    value = min(_refit(statistics, statistics.shared(fisher.first_fit)), 1.0)
    perfect = "no sample is doubtful: the score is at its upper limit" if value > 1 - CERTAIN else None
    return value, joined(fisher.saturation(statistics), perfect)


sfda = Metric(_measure)
