"""H-score (Bao et al., ICIP 2019) and its regularised form (Ibrahim et al., ECML 2022, arXiv 2110.06893).

    H = tr(pinv(cov F) cov G),        H_a = tr(pinv(cov_a F) (1 - a) cov G),

where row i of G is the mean feature of sample i's class, and cov_a is the Ledoit-Wolf estimate
(1 - a) cov + a tr(cov)/D I with its closed-form shrinkage a. cov G has N - 1 in its denominator.
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Metric
from stages.rank.statistics import Statistics


def h_score(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return the H-score, in [0, min(C - 1, D)]: the squared class means of the whitened features, weighted by count."""
    spectrum = statistics.centred_spectrum
    if not len(spectrum.squares):
        return None, "all features are constant"
    means = spectrum.class_sums / statistics.counts[:, None]  # (c, k) of U
    value = float((statistics.counts[:, None] * means**2).sum())
    if len(spectrum.squares) >= statistics.n - 1:
        return value, "N <= D: the H-score is C - 1 whatever the features"
    return value, None


def ledoit_wolf_shrinkage(statistics: Statistics) -> float:
    """Return the shrinkage of Ledoit and Wolf (2004), with 1/N in the covariance."""
    n, d = statistics.n, statistics.d
    norms = (statistics.centred**2).sum(axis=1)  # (n,)
    squares = statistics.centred_spectrum.squares
    mean = norms.sum() / (n * d)
    fourth = (norms**2).sum()  # sum of the entries of (X*X)'(X*X)
    second = (squares**2).sum() / n**2  # squared Frobenius norm of the covariance
    distance = (second - d * mean**2) / d
    noise = min((fourth / n - second) / (d * n), distance)
    return float(noise / distance) if distance > 0 else 0.0


def regularized_h_score(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return the H-score with Ledoit-Wolf shrinkage."""
    spectrum = statistics.centred_spectrum
    if not len(spectrum.squares):
        return None, "all features are constant"
    n = statistics.n
    shrinkage = ledoit_wolf_shrinkage(statistics)
    means = spectrum.class_sums * np.sqrt(spectrum.squares) / statistics.counts[:, None]  # (c, k), along V
    between = (statistics.counts[:, None] * means**2).sum(axis=0) / (n - 1)
    scale = float(spectrum.squares.sum()) / (n * statistics.d)
    within = (1 - shrinkage) * spectrum.squares / n + shrinkage * scale
    return float(((1 - shrinkage) * between / within).sum()), None


H_SCORE = Metric(h_score)
REGULARIZED_H_SCORE = Metric(regularized_h_score)
