"""Shared-variance naive Bayes against the definition written out in float64, and streaming against one batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.utils.estimator_checks import check_estimator

from stages.probe import SharedVarianceGaussianNB

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def blobs(n: int, d: int, k: int, seed: int = 0) -> tuple[Floats, Ints]:
    """k unequal classes [n, d] whose means are half a standard deviation apart in every dimension."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), random.integers(0, k, n - k) // 2])
    spread = random.uniform(0.5, 2.0, d)
    return random.normal(size=(k, d))[labels] * 0.5 + random.normal(size=(n, d)) * spread, labels


def by_definition(x: Floats, y: Ints, new: Floats, weights: Floats | None = None, epsilon: float = 1e-9) -> Floats:
    """log p(k | x) [n, k] from priors, means, within-class variances and full Gaussian densities, class by class."""
    weights = np.ones(len(y)) if weights is None else weights
    classes = np.unique(y)
    priors = np.array([weights[y == k].sum() for k in classes]) / weights.sum()
    means = np.array([np.average(x[y == k], axis=0, weights=weights[y == k]) for k in classes])
    variance = sum(
        prior * np.average((x[y == k] - mean) ** 2, axis=0, weights=weights[y == k])
        for k, prior, mean in zip(classes, priors, means, strict=True)
    )
    variance = variance + epsilon
    joint = [
        np.log(prior) - 0.5 * (np.log(2 * np.pi * variance) + (new - mean) ** 2 / variance).sum(axis=1)
        for prior, mean in zip(priors, means, strict=True)
    ]
    scores = np.stack(joint, axis=1)
    return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))


@pytest.mark.parametrize(("n", "d", "k"), [(60, 3, 2), (500, 20, 7), (40, 300, 5)])
def test_equals_the_definition(n: int, d: int, k: int) -> None:
    x, y = blobs(n, d, k)
    new, _ = blobs(50, d, k, seed=1)
    weights = np.random.default_rng(2).uniform(0.1, 3.0, n)
    model = SharedVarianceGaussianNB().fit(x, y)
    np.testing.assert_allclose(model.predict_log_proba(new), by_definition(x, y, new), rtol=1e-9, atol=1e-8)
    np.testing.assert_array_equal(model.predict(new), by_definition(x, y, new).argmax(axis=1))
    weighted = SharedVarianceGaussianNB().fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(weighted.predict_log_proba(new), by_definition(x, y, new, weights), rtol=1e-9, atol=1e-8)


def test_passes_scikit_learns_contract() -> None:
    check_estimator(SharedVarianceGaussianNB(), on_skip=None)


@settings(max_examples=60)
@given(
    cuts=st.lists(st.integers(1, 119), max_size=8, unique=True),
    offset=st.sampled_from([0.0, -3e3, 1e6]),
    dtype=st.sampled_from(["float64", "float32"]),
    weighted=st.booleans(),
)
def test_any_stream_of_chunks_equals_one_batch(cuts: list[int], offset: float, dtype: str, weighted: bool) -> None:
    x, y = blobs(120, 6, 4)
    x = (x + offset).astype(dtype)
    weights = np.random.default_rng(3).integers(0, 4, len(x)).astype(float) if weighted else None
    batch = SharedVarianceGaussianNB().fit(x, y, sample_weight=weights)
    stream = SharedVarianceGaussianNB()
    for rows in np.split(np.arange(len(x)), sorted(cuts)):
        part = None if weights is None else weights[rows]
        if part is not None and not part.any() and not hasattr(stream, "var_"):
            continue  # nothing to learn from yet, which is refused
        stream.partial_fit(x[rows], y[rows], classes=np.arange(4), sample_weight=part)
    np.testing.assert_allclose(stream.theta_, batch.theta_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stream.var_, batch.var_, rtol=1e-10)
    np.testing.assert_allclose(stream.predict_log_proba(x), batch.predict_log_proba(x), rtol=1e-8, atol=1e-8)


def test_a_large_common_offset_costs_no_accuracy() -> None:
    x, y = blobs(300, 5, 3)
    far = x + 1e8
    near = far - 1e8  # what float64 keeps of x at that distance
    model = SharedVarianceGaussianNB().fit(far, y)
    np.testing.assert_allclose(model.predict_log_proba(far), by_definition(near, y, near), rtol=1e-6, atol=1e-6)


def test_many_blocks_equal_the_definition() -> None:
    x, y = blobs(3_000, 300, 3)  # rows of several blocks, at fit and at prediction
    np.testing.assert_allclose(
        SharedVarianceGaussianNB().fit(x, y).predict_log_proba(x), by_definition(x, y, x), rtol=1e-8, atol=1e-7
    )


def test_log_probabilities_stay_finite_in_4096_dimensions() -> None:
    x, y = blobs(200, 4096, 5)
    log_probabilities = SharedVarianceGaussianNB().fit(x, y).predict_log_proba(10 * x)
    assert np.isfinite(log_probabilities).all()
    assert log_probabilities.min() < -745  # beyond what a probability can hold
    np.testing.assert_allclose(np.exp(log_probabilities).sum(axis=1), 1)


def test_one_example_a_class_becomes_nearest_neighbour() -> None:
    x, _ = blobs(8, 16, 2)
    model = SharedVarianceGaussianNB().fit(x, np.arange(8))  # no variance but epsilon: the nearest mean wins
    new = np.random.default_rng(4).normal(size=(100, 16))
    nearest = ((new[:, None] - x[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(model.predict(new), nearest)


def test_a_constant_column_changes_nothing_even_where_it_varies_later() -> None:
    x, y = blobs(100, 4, 3)
    padded = np.column_stack([x, np.full(100, 1e6 + 0.1)])
    new = np.column_stack([x, np.linspace(-5, 2e6, 100)])
    expected = SharedVarianceGaussianNB().fit(x, y).predict_log_proba(x)
    np.testing.assert_allclose(SharedVarianceGaussianNB().fit(padded, y).predict_log_proba(new), expected, atol=1e-9)


def test_a_class_not_seen_yet_has_probability_zero_and_the_rest_stands() -> None:
    x, y = blobs(100, 4, 3)
    model = SharedVarianceGaussianNB().partial_fit(x, y, classes=[0, 1, 2, 3])
    probabilities = model.predict_proba(x)
    assert (probabilities[:, 3] == 0).all()
    np.testing.assert_allclose(probabilities[:, :3], SharedVarianceGaussianNB().fit(x, y).predict_proba(x), atol=1e-12)


def test_what_cannot_be_merged_is_refused() -> None:
    x, y = blobs(30, 4, 3)
    with pytest.raises(ValueError, match="name all classes"):
        SharedVarianceGaussianNB().partial_fit(x, y)
    with pytest.raises(ValueError, match=r"\[2\].* not among"):
        SharedVarianceGaussianNB().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="differ from"):
        SharedVarianceGaussianNB().partial_fit(x, y, classes=[0, 1, 2]).partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="are zero"):
        SharedVarianceGaussianNB().fit(x, y, sample_weight=np.zeros(30))
