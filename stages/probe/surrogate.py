"""What a small logistic loss guarantees about the error: the consistency bound of the multinomial logistic loss.

Write p for the true class probabilities at a point and q for the softmax of a classifier's scores there, which predicts
argmax q. The error that the prediction costs there is t = max p - p[argmax q], the logistic loss that q costs is
KL(p || q), and

    KL(p || q) >= T(t),    T(t) = (1+t)/2 log(1+t) + (1-t)/2 log(1-t).

Proof: q must give the predicted class at least as much as the best one; the cheapest such q gives both the mean of
their p, and the rest its p. With u = t/s, s the sum of the two, that costs s T(u), least where s = 1. T is convex, so the
same holds for means over any distribution of points (Jensen). Hence

    excess error <= T^-1(excess logistic loss) <= sqrt(2 excess logistic loss),

where both excesses are over the Bayes rule: with minimizability gaps they are the estimation errors of any hypothesis set
that can give any scores at any point, linear functions with a free intercept among them. T and its tightness: Mao,
Mohri and Zhong, "H-consistency bounds: characterization and extensions" (NeurIPS 2023), comp-sum losses. arXiv 2302.02334
gives a bound of this kind for the same loss; its own statement and constants are not used here.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_HALVINGS = 60  # of the interval [0, 1]: to the last bit of float64


def error_transform(error: ArrayLike) -> NDArray[np.float64]:
    """Return T, the least excess logistic loss in nats of a classifier with this excess error, 0 to 1."""
    error = np.asarray(error, dtype=np.float64)
    return cast("NDArray[np.float64]", (special.xlog1py(1 + error, error) + special.xlog1py(1 - error, -error)) / 2)


def error_bound(excess_loss: ArrayLike) -> NDArray[np.float64]:
    """Return T^-1, the greatest excess error of a classifier with this excess logistic loss in nats; 1 from log 2 on."""
    loss = np.asarray(excess_loss, dtype=np.float64)
    low, high = np.zeros_like(loss), np.ones_like(loss)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = error_transform(middle) <= loss
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high  # never below the true value


def excesses(log_truth: NDArray[np.float64], log_predicted: NDArray[np.float64]) -> tuple[float, float]:
    """Return the excess error and the excess logistic loss (nats) over the Bayes rule, both exact at the given points.

    Args:
        log_truth: [m, K] true log p(k | x).
        log_predicted: [m, K] a classifier's log-probabilities; it predicts the largest.
    """
    truth = np.exp(log_truth)
    predicted = truth[np.arange(len(truth)), log_predicted.argmax(axis=1)]
    regret = truth.max(axis=1) - predicted
    with np.errstate(invalid="ignore"):  # a probability that is exactly 0 costs nothing
        divergence = np.where(truth > 0, truth * (log_truth - log_predicted), 0.0).sum(axis=1)
    return float(regret.mean()), float(divergence.mean())
