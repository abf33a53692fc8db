"""TransRate: mutual information of features and labels by coding rates (Huang et al., ICML 2022, arXiv 2106.09362).

TransRate = R(F) - sum_c n_c / N R(F_c),      R(A) = 1/2 ln det(I + A'A / (n eps)),      F centred, eps = 1e-4.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from stages.rank.metric import Metric
from stages.rank.statistics import Real, Statistics

DISTORTION = 1e-4


def coding_rate(rows: Real, squares: Real | None = None) -> float:
    """Return R of rows [n, d], in nats; `squares` are their squared singular values where they are known."""
    if squares is None:
        gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        squares = np.maximum(linalg.eigvalsh(gram, check_finite=False), 0)
    return float(np.log1p(squares / (len(rows) * DISTORTION)).sum() / 2)


def transrate(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return TransRate, at least 0 up to rounding."""
    whole = coding_rate(statistics.centred, statistics.centred_spectrum.squares)
    shares = statistics.counts / statistics.n
    parts = [coding_rate(statistics.centred[statistics.labels == index]) for index in range(len(shares))]
    return whole - float(np.dot(shares, parts)), "all features are constant" if whole == 0 else None


TRANSRATE = Metric(transrate)
