"""Estimates of many targets that lend each other strength: empirical Bayes for variances and for slopes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 4  # estimates below which nothing can be said of their spread
ENDLESS = 1e6  # degrees of freedom that count as infinite


@dataclass(frozen=True)
class Shrunk:
    """Estimates [t] drawn towards their common mean, their standard errors, and how far each was drawn, 0 to 1."""

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    weights: NDArray[np.float64]


def moderate(variances: NDArray[np.float64], freedom: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances [t] with `freedom` [t] degrees of freedom, drawn to a common one, and their degrees of freedom.

    Smyth 2004, "Linear models and empirical Bayes methods", section 6.2: log variances have a known spread by chance; what they
    vary beyond it tells how many degrees of freedom the common variance is worth. Variances of no freedom follow the others.
    """
    from scipy.special import digamma, polygamma

    told = (freedom > 0) & (variances > 0)
    if told.sum() < LEAST:
        return variances, freedom
    half = freedom[told] / 2
    logs = np.log(variances[told]) - digamma(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - np.mean(polygamma(1, half)))
    if beyond <= 0:
        prior, common = ENDLESS, float(np.exp(np.mean(logs)))
    else:
        prior = 2 * _inverse_trigamma(beyond)
        common = float(np.exp(np.mean(logs) + digamma(prior / 2) - np.log(prior / 2)))
    total = prior + np.maximum(freedom, 0)
    own = np.where(freedom > 0, variances, 0.0)
    return (prior * common + np.maximum(freedom, 0) * own) / total, np.minimum(total, ENDLESS)


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = value, by Newton's method from Smyth's start."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        step = float(polygamma(1, x) * (1 - polygamma(1, x) / value) / polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return float(x)


def towards_mean(values: NDArray[np.float64], variances: NDArray[np.float64]) -> Shrunk:
    """Shrink estimates [t] with known sampling variances [t] towards their mean.

    The spread of the true values is Paule and Mandel's; the weights and the standard errors, which count that the spread and
    the mean are estimated too, are those of Morris 1983, "Parametric empirical Bayes inference". Fewer than four stay.
    """
    count = len(values)
    if count < LEAST or (variances <= 0).any():
        return Shrunk(values, np.sqrt(np.maximum(variances, 0.0)), np.zeros(count))
    spread = _spread(values, variances)
    precision = 1 / (variances + spread)
    mean = float(np.sum(precision * values) / np.sum(precision))
    weights = (count - 3) / (count - 1) * variances * precision
    shrunk = values - weights * (values - mean)
    error = variances * (1 - (count - 1) / count * weights) + 2 / (count - 3) * weights**2 * (values - mean) ** 2
    return Shrunk(shrunk, np.sqrt(error), weights)


def _spread(values: NDArray[np.float64], variances: NDArray[np.float64]) -> float:
    """Return the variance of the true values: the root of sum (value - mean)^2 / (variance + spread) = count - 1, or 0."""

    def excess(spread: float) -> float:
        precision = 1 / (variances + spread)
        mean = np.sum(precision * values) / np.sum(precision)
        return float(np.sum(precision * (values - mean) ** 2)) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(np.var(values, ddof=1)) + float(variances.max())
    for _ in range(200):  # the excess falls with the spread
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2
