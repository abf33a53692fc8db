"""PACTran-Gaussian: minus a PAC-Bayes bound of the error that a linear classifier on the features would make.

Ding et al., ECCV 2022, arXiv 2203.05126: with a Gaussian prior of variance s0 on the weights W [d, C] of softmax regression,

    bound = min over W, b of mean_i -ln softmax(x_i W + b)_{y_i} + |W|^2 / (2 tau)
            + d C s0 / (2 tau) ln(1 + tau / (d C) tr H),      score = -bound

where H is the Hessian of the first term, in W and b, at the minimum. tau = n and s0 = 100 / d are one of the pairs in the
authors' program, and the one that others took over. At most 0; features are centred. The minimum is the minimum: the
program stops after 100 steps from a random start. Like the paper, which counts on few samples a class, it looks at 1,000 at
most, or at ten a class where that is more, taken evenly; a bound depends on their number, which candidates share.
"""

from __future__ import annotations

import numpy as np

from stages.rank import softmax_regression
from stages.rank.fisher import softmax
from stages.rank.metric import Finding, Metric, joined
from stages.rank.sampling import evenly, on_own_axes, said
from stages.rank.statistics import Statistics

VARIANCE = 100.0  # of the prior, times d
MOST = 1000
A_CLASS = 10
TOLERANCE = 1e-11


def _measure(statistics: Statistics) -> Finding:
    chosen = evenly(statistics, max(MOST, A_CLASS * statistics.n_classes))
    present, labels = np.unique(statistics.labels[chosen], return_inverse=True)
    n, classes, d = len(chosen), len(present), statistics.d
    shares = np.bincount(labels) / n
    if statistics.constant:
        loss, curvature = -float((shares * np.log(shares)).sum()), float((shares * (1 - shares)).sum())
        warning: str | None = "the features are constant"
    else:
        rows = on_own_axes(statistics, chosen)
        found = softmax_regression.fit(rows, labels, classes, np.full(rows.shape[1], 1 / n), TOLERANCE)
        probabilities = softmax(rows @ found.weights + found.offsets)
        uncertain = (probabilities * (1 - probabilities)).sum(axis=1)
        # The bias is a feature of length 1.
        loss, curvature = found.value, float((uncertain * (1 + (rows**2).sum(axis=1))).mean())
        warning = None if found.converged else "the minimum was not reached: the bound is too loose"
    flatness = classes * VARIANCE / (2 * n) * float(np.log1p(n / (d * classes) * curvature))
    return -(loss + flatness), joined(warning, said(statistics, chosen))


pactran_gauss = Metric(_measure)
