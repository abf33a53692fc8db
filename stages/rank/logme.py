"""LogME: log maximum evidence of a Bayesian linear model (You et al., ICML 2021, arXiv 2102.11005).

For each one-vs-rest target y in {0, 1}^N, the evidence of y = F w + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), is
maximised over alpha and beta by MacKay's fixed point; the score is its mean over targets, per sample:

    ln p(y) = k/2 ln alpha + N/2 ln beta - 1/2 sum_i ln(alpha + beta s_i) - beta/2 |y - F m|^2 - alpha/2 |m|^2 - N/2 ln 2 pi

with s_i the k nonzero squared singular values. The published program writes D/2 ln alpha, which is wrong for N < D:
directions without a singular value cancel from prior and posterior alike.
"""

from __future__ import annotations

import numpy as np

from stages.rank.metric import Metric
from stages.rank.statistics import Real, Statistics

ITERATIONS = 1000
TOLERANCE = 1e-10  # relative change of alpha / beta
_TINY = 1e-5  # keeps alpha and beta finite where a target is fitted exactly, as in the published program


def evidence(squares: Real, projections: Real, total: float, n: int) -> float:
    """Return the maximised log evidence per sample.

    Args:
        squares: [k] squared singular values of F.
        projections: [k] U'y.
        total: y'y.
        n: rows of F.
    """
    energy = projections**2
    left_over = max(total - float(energy.sum()), 0.0)
    ratio = 1.0  # alpha / beta
    for _ in range(ITERATIONS):
        gamma = float((squares / (squares + ratio)).sum())
        weight = float((squares * energy / (ratio + squares) ** 2).sum())
        residual = float((energy * (ratio / (ratio + squares)) ** 2).sum()) + left_over
        alpha, beta = gamma / (weight + _TINY), (n - gamma) / (residual + _TINY)
        last, ratio = ratio, alpha / beta
        if abs(ratio - last) <= TOLERANCE * last:
            break
    weight = float((squares * energy / (ratio + squares) ** 2).sum())
    residual = float((energy * (ratio / (ratio + squares)) ** 2).sum()) + left_over
    k = len(squares)
    value = (
        k / 2 * np.log(alpha) + n / 2 * np.log(beta) - np.log(alpha + beta * squares).sum() / 2
        - beta / 2 * residual - alpha / 2 * weight - n / 2 * np.log(2 * np.pi)
    )  # fmt: skip
    return float(value / n)


def logme(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return LogME for classification."""
    spectrum = statistics.raw_spectrum
    if not len(spectrum.squares):
        return None, "all features are zero"
    if len(spectrum.squares) >= statistics.n:
        warning = "features span all samples (N <= D): every target is fitted exactly"
    else:
        warning = None
    values = [
        evidence(spectrum.squares, sums, float(count), statistics.n)
        for sums, count in zip(spectrum.class_sums, statistics.counts, strict=True)
    ]
    return float(np.mean(values)), warning


LOGME = Metric(logme)
