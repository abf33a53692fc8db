"""The Gaussian mixtures of arXiv 2302.02334: naive Bayes needs O(log n) examples, logistic regression O(n)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.probe import LogisticProbe, SharedVarianceGaussianNB

SEEDS = 5
TOLERANCE = 0.01  # above Bayes error, which for two classes here is below 1e-11


def mixture(n: int, m: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two classes with means -1 and +1 in all n coordinates; variance n in the first half of them, 1 in the rest."""
    random = np.random.default_rng([seed, n, m])
    labels = np.concatenate([[0, 1], random.integers(0, 2, m - 2)])
    deviation = np.where(np.arange(n) < n // 2, np.sqrt(n), 1.0)
    return (2.0 * labels - 1)[:, None] + random.normal(size=(m, n)) * deviation, labels


def mean_error(head: SharedVarianceGaussianNB | LogisticProbe, n: int, m: int) -> float:
    test_x, test_y = mixture(n, 10_000, seed=1000)
    draws = (mixture(n, m, seed) for seed in range(SEEDS))
    return float(np.mean([(head.fit(x, y).predict(test_x) != test_y).mean() for x, y in draws]))


def test_naive_bayes_needs_about_8_examples_and_logistic_regression_grows_with_n() -> None:
    naive_bayes, logistic = SharedVarianceGaussianNB(), LogisticProbe(scale=False)  # the mixtures' units are the point
    for n in (100, 400):
        assert mean_error(naive_bayes, n, 4) > TOLERANCE
        assert mean_error(naive_bayes, n, 16) < TOLERANCE / 10
    assert mean_error(naive_bayes, 100, 8) < TOLERANCE
    # n = 100: about 128
    assert mean_error(logistic, 100, 64) > TOLERANCE
    assert mean_error(logistic, 100, 256) < TOLERANCE
    # n = 400: between 256 and 1024
    assert mean_error(logistic, 400, 256) > TOLERANCE
    assert mean_error(logistic, 400, 1024) < TOLERANCE
