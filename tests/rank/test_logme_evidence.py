"""LogME's evidence against dense determinants, and where its maximum lies."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.rank.logme import classification, logme, logme_regression
from stages.rank.statistics import Statistics


def dense(features: NDArray, y: NDArray, alpha: float, beta: float) -> float:
    """Log evidence per sample through the d x d posterior, as the paper writes it."""
    n, d = features.shape
    precision = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(precision, features.T @ y)
    value = d / 2 * np.log(alpha) + n / 2 * np.log(beta) - n / 2 * np.log(2 * np.pi)
    value -= beta / 2 * np.sum((y - features @ m) ** 2) + alpha / 2 * (m @ m) + np.linalg.slogdet(precision)[1] / 2
    return float(value / n)


def marginal(features: NDArray, y: NDArray, alpha: float, beta: float) -> float:
    """Log density of y under N(0, F F' / alpha + I / beta), per sample: the n x n form, which keeps its digits as t falls."""
    n = len(y)
    covariance = features @ features.T / alpha + np.eye(n) / beta
    determinant = np.linalg.slogdet(covariance)[1]
    return float(-(y @ np.linalg.solve(covariance, y) + determinant + n * np.log(2 * np.pi)) / 2 / n)


def candidate(n: int, d: int, offset: float = 0.0, apart: float = 0.6) -> tuple[NDArray, NDArray]:
    stream = np.random.default_rng(n + d)
    labels = np.arange(n) % 3
    return stream.normal(size=(n, d)) + apart * stream.normal(size=(3, d))[labels] + offset, labels


@pytest.mark.parametrize(("n", "d"), [(60, 256), (30, 31), (31, 31), (32, 31), (200, 8), (200, 1)])
@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0])
def test_evidence_is_the_dense_one_and_no_neighbour_is_higher(n: int, d: int, offset: float) -> None:
    features, labels = candidate(n, d, offset)
    found = classification(Statistics(features, labels))
    for label in range(3):
        y = (labels == label).astype(float)
        alpha, beta = found.alpha[label], found.beta[label]
        assert marginal(features, y, alpha, beta) == pytest.approx(found.values[label], abs=1e-6)
        if alpha / beta > 1e-3:  # far below it the d x d matrix itself has lost its digits
            assert dense(features, y, alpha, beta) == pytest.approx(found.values[label], abs=1e-9)
        for da in (0.97, 1, 1.03):
            for db in (0.97, 1, 1.03):
                assert marginal(features, y, alpha * da, beta * db) <= found.values[label] + 1e-6


def test_more_dimensions_than_samples_with_noise_are_dense_to_nine_digits() -> None:
    features, labels = candidate(60, 256, apart=0.05)
    found = classification(Statistics(features, labels))
    assert found.alpha[0] / found.beta[0] > 1
    for label in range(3):
        value = dense(features, (labels == label).astype(float), found.alpha[label], found.beta[label])
        assert value == pytest.approx(found.values[label], abs=1e-9)


def test_the_value_of_more_dimensions_than_samples_is_not_the_published_programs() -> None:
    stream = np.random.default_rng(0)
    features, labels = stream.normal(size=(60, 256)), np.arange(60) % 4
    value = logme(features, labels).value
    assert value is not None
    assert -1 < value < 0  # one-hot targets of a quarter ones and no signal: near ln N(y; 0, 1/4); the program gives +10.8
    assert value == pytest.approx((np.log(240 / 60 / (2 * np.pi)) - 1) / 2, abs=0.2)


def test_a_fixed_point_of_mackays_updates() -> None:
    features, labels = candidate(150, 6)
    found = classification(Statistics(features, labels))
    squares = np.linalg.svd(features, compute_uv=False) ** 2
    for label in range(3):
        y, alpha, beta = (labels == label).astype(float), found.alpha[label], found.beta[label]
        m = np.linalg.solve(alpha / beta * np.eye(6) + features.T @ features, features.T @ y)
        gamma = float((squares / (squares + alpha / beta)).sum())
        assert alpha == pytest.approx(gamma / (m @ m), rel=1e-4)
        assert beta == pytest.approx((150 - gamma) / np.sum((y - features @ m) ** 2), rel=1e-4)


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_large_offset_costs_no_digits(offset: float) -> None:
    """Rotating the offset into one column of its own leaves the evidence; there it is a nearly free intercept."""
    features, labels = candidate(300, 5)
    moved = logme(features + offset, labels).value
    column = np.full((300, 1), offset * np.sqrt(5))
    direction = np.ones((5, 1)) / np.sqrt(5)
    apart = np.hstack([features - features @ direction @ direction.T, features @ direction + column])
    assert moved == pytest.approx(logme(apart, labels).value, rel=1e-7)
    limit = logme(np.hstack([features, np.full((300, 1), 1e9)]), labels).value
    assert moved == pytest.approx(limit, abs=0.1)


def test_a_target_that_is_fitted_exactly_is_finite_and_says_so() -> None:
    labels = np.arange(60) % 3
    score = logme(np.eye(3)[labels], labels)
    assert score.value is not None
    assert np.isfinite(score.value)
    assert "exactly" in str(score.warning)
    noisy = logme(np.eye(3)[labels] + 0.1 * np.random.default_rng(0).normal(size=(60, 3)), labels)
    assert noisy.value is not None
    assert score.value > noisy.value
    assert noisy.warning is None


def test_regression_of_one_hot_targets_is_classification() -> None:
    for n, d in ((90, 5), (40, 70)):
        features, labels = candidate(n, d)
        regression = logme_regression(features, np.eye(3)[labels])
        assert regression.value == pytest.approx(logme(features, labels).value, rel=1e-9)


def test_regression_of_a_real_target() -> None:
    features, _ = candidate(80, 4)
    y = features @ [1.0, -2, 0.5, 0] + 0.3 * np.random.default_rng(1).normal(size=80) + 2
    value = logme_regression(features, y).value
    grid = [dense(features, y, a, b) for a in np.geomspace(1e-3, 1e3, 120) for b in np.geomspace(1e-2, 1e2, 120)]
    assert value is not None
    assert max(grid) <= value + 1e-12
    assert max(grid) == pytest.approx(value, abs=1e-3)
    assert logme_regression(features, np.zeros(80)).value is None
    with pytest.raises(ValueError, match="finite"):
        logme_regression(features, np.full(80, np.nan))
