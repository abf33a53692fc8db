"""The logistic head against its objective written out here and minimised by another method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from stages.probe import HEADS, LogisticProbe
from stages.probe.heads import few_examples_expected
from stages.probe.rows import Held, extent
from stages.probe.softmax import Optimum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def blobs(n: int, d: int, k: int, apart: float = 0.5, seed: int = 0) -> tuple[Floats, Ints]:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), random.integers(0, k, n - k)])
    return random.normal(size=(k, d))[labels] * apart + random.normal(size=(n, d)) * random.uniform(0.2, 9, d) + 3, labels


def scaled(x: Floats) -> Floats:
    """Min-max scaling written out; a constant column becomes 0."""
    width = np.ptp(x, axis=0)
    return np.asarray((x - x.min(axis=0)) * (width > 0) / np.where(width > 0, width, 1))


def objective(weights: Floats, intercepts: Floats, z: Floats, y: Ints, c: float) -> tuple[float, Floats, Floats]:
    """Return 1/2 |W|^2 + c sum of losses, over n c, with its gradients by W [k, d] and b [k]."""
    logits = z @ weights.T + intercepts
    error = softmax(logits, axis=1)
    error[np.arange(len(y)), y] -= 1
    loss = 0.5 * (weights**2).sum() - c * log_softmax(logits, axis=1)[np.arange(len(y)), y].sum()
    scale = c * len(y)
    return loss / scale, (weights + c * error.T @ z) / scale, c * error.sum(axis=0) / scale


CASES = {
    "overlapping": (blobs(200, 5, 4), 1.0),
    "separable": (blobs(60, 6, 3, apart=60.0), 20.0),
    "m_below_d": (blobs(20, 50, 3), 1.0),
    "one_example_a_class": (blobs(25, 10, 25), 0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_reaches_the_optimum_of_the_objective(case: str) -> None:
    (x, y), c = CASES[case]
    x = np.column_stack([x, np.full(len(x), 0.1)])  # and a constant column, whose mean is not exactly its value
    z, k, d = scaled(x), len(np.unique(y)), x.shape[1]
    model = LogisticProbe(c, tol=1e-16).fit(x, y)
    width = np.ptp(x, axis=0)
    weights = model.coef_ * width
    intercepts = model.intercept_ + model.coef_ @ x.min(axis=0)
    loss, slope_w, slope_b = objective(weights, intercepts, z, y, c)
    assert model.converged_
    assert max(abs(slope_w).max(), abs(slope_b).max()) < 1e-7
    assert (model.coef_[:, -1] == 0).all()

    def flat(values: Floats) -> tuple[float, Floats]:
        found, by_w, by_b = objective(values[: k * d].reshape(k, d), values[k * d :], z, y, c)
        return found, np.concatenate([by_w.ravel(), by_b])

    other = minimize(flat, np.zeros(k * d + k), jac=True, method="CG", options={"gtol": 1e-8, "maxiter": 20_000})
    assert loss == pytest.approx(other.fun, rel=1e-8, abs=1e-10)
    np.testing.assert_allclose(weights, other.x[: k * d].reshape(k, d), atol=2e-4)


def test_equals_scikit_learns_newton_solver_on_two_classes() -> None:
    x, y = blobs(150, 8, 2)
    names = np.array(["no", "yes"])[y]
    scaler = MinMaxScaler().fit(x)
    reference = LogisticRegression(C=3.0, solver="newton-cholesky", tol=1e-12).fit(scaler.transform(x), names)
    model = LogisticProbe(3.0, tol=1e-15).fit(x, names)
    np.testing.assert_allclose(model.predict_proba(x), reference.predict_proba(scaler.transform(x)), atol=1e-6)
    np.testing.assert_allclose(model.predict_log_proba(x), np.log(model.predict_proba(x)), atol=1e-9)
    np.testing.assert_allclose(x @ model.coef_[0] + model.intercept_[0], model.decision_function(x), atol=1e-9)
    assert set(model.predict(x)) == {"no", "yes"}


def test_passes_scikit_learns_contract() -> None:
    check_estimator(LogisticProbe(), on_skip=None)
    check_estimator(LogisticProbe(scale=False), on_skip=None)


def test_scaling_makes_the_units_of_a_column_irrelevant() -> None:
    x, y = blobs(100, 6, 3)
    stretched = x * np.array([1e-4, 1, 1, 1e5, 1, 1]) + np.array([0, 1e3, 0, 0, -50, 0])
    np.testing.assert_allclose(
        LogisticProbe(tol=1e-14).fit(x, y).predict_proba(x),
        LogisticProbe(tol=1e-14).fit(stretched, y).predict_proba(stretched),
        atol=1e-6,
    )


def test_a_column_constant_in_training_is_ignored_where_it_varies_later() -> None:
    x, y = blobs(100, 6, 3)
    later = x.copy()
    x[:, 2] = 5.0
    later[:, 2] = np.linspace(-1e6, 1e6, 100)
    model = LogisticProbe().fit(x, y)
    at_rest = later.copy()
    at_rest[:, 2] = 5.0
    np.testing.assert_array_equal(model.predict_proba(later), model.predict_proba(at_rest))


def test_log_probabilities_are_finite_far_from_the_data() -> None:
    x, y = blobs(100, 6, 3, apart=60.0)
    log_probabilities = LogisticProbe(100.0).fit(x, y).predict_log_proba(1e5 * x)
    assert np.isfinite(log_probabilities).all()
    assert log_probabilities.min() < -745


def test_a_fit_that_stops_early_says_so_without_a_warning() -> None:
    x, y = blobs(200, 5, 4)
    stopped = LogisticProbe(max_iter=2).fit(x, y)
    assert not stopped.converged_
    assert stopped.n_iter_ == 2
    assert LogisticProbe().fit(x, y).converged_


def newton(z: Floats, y: Ints, c: float) -> LogisticRegression:
    with few_examples_expected():
        return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-14, max_iter=200).fit(z, y)


def gap(model: LogisticProbe, x: Floats, y: Ints, c: float) -> float:
    """Distance of the mean objective to scikit-learn's Newton optimum, both written out in float64."""
    z, width = scaled(x), np.ptp(x, axis=0)
    best = newton(z, y, c)
    ours = objective(model.coef_ * width, model.intercept_ + model.coef_ @ x.min(axis=0), z, y, c)[0]
    return ours - objective(best.coef_, best.intercept_, z, y, c)[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-9])
def test_the_estimated_distance_to_the_optimum_is_the_true_one(case: str, tol: float) -> None:
    (x, y), c = CASES[case]
    model = LogisticProbe(c, tol=tol).fit(x, y)
    assert model.distance_ <= tol
    assert -1e-12 < gap(model, x, y, c) < 5 * tol


@pytest.mark.parametrize("case", CASES)
def test_coefficients_equal_scikit_learns(case: str) -> None:
    (x, y), c = CASES[case]
    best = newton(scaled(x), y, c)
    model = LogisticProbe(c, tol=1e-18).fit(x, y)
    np.testing.assert_allclose(model.coef_ * np.ptp(x, axis=0), best.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_ + model.coef_ @ x.min(axis=0), best.intercept_, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_features_reach_the_same_optimum(offset: float) -> None:
    x, y = blobs(3000, 40, 5)
    narrow = (x + offset).astype(np.float32)
    model = LogisticProbe(1.0, tol=1e-8).fit(narrow, y)
    assert model.converged_
    assert gap(model, narrow.astype(np.float64), y, 1.0) < 5e-8


def test_many_rows_for_each_dimension_and_unequal_classes() -> None:
    random = np.random.default_rng(0)
    y = np.minimum(random.geometric(0.5, 6000), 7) - 1
    x = random.normal(size=(7, 12))[y] + random.normal(size=(6000, 12))
    model = LogisticProbe(1.0, tol=1e-7).fit(x, y)
    assert gap(model, x, y, 1.0) < 5e-7
    assert model.n_iter_ < 40


def test_a_start_that_is_sure_and_wrong_is_left_behind() -> None:
    x, y = blobs(200, 5, 4)
    path = [fitted.classifier for fitted in HEADS["logistic"].along(x, y, [8, 200], np.arange(4), 1e4)]
    swapped = LogisticProbe(1e4).fit(x, (y + 1) % 4)  # sure of another class everywhere
    model = LogisticProbe(1e4, tol=1e-9)
    low, high, mean = extent(x)
    origin = np.zeros(5)
    start = LogisticProbe()._keep(np.arange(4), Optimum(50 * swapped.coef_, 50 * swapped.intercept_, 0, 0, 0, True), origin)
    model.fit_rows(np.arange(4), Held(x, y), low, high, mean, origin, start)
    assert model.converged_
    assert gap(model, x, y, 1e4) < 1e-8
    assert gap(path[-1], x, y, 1e4) < 1e-4


def test_the_path_along_nested_draws_ends_where_a_fresh_fit_does() -> None:
    x, y = blobs(600, 30, 6)
    sizes = [12, 25, 50, 100, 300, 600]
    for m, (model, constant, warning) in zip(sizes, HEADS["logistic"].along(x, y, sizes, np.arange(6), 1.0), strict=True):
        assert gap(model, x[:m], y[:m], 1.0) < 5e-5
        assert (constant, warning) == (1.0, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streaming_a_memory_map_reaches_the_same_optimum(dtype: str, tmp_path: Path) -> None:
    x, y = blobs(5000, 30, 6)
    y[:7] = 6  # a class that the sampled rows may lack
    np.save(tmp_path / "x.npy", (x + 100).astype(dtype))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = LogisticProbe(1.0, tol=1e-7).fit_streamed(mapped, y, sample_rows=500)
    assert model.converged_
    assert gap(model, np.asarray(mapped, dtype=np.float64), y, 1.0) < 5e-7
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LogisticProbe().fit_streamed(broken, y)


def test_one_class_alone_is_refused() -> None:
    x, _ = blobs(20, 3, 2)
    with pytest.raises(ValueError, match="one class"):
        LogisticProbe().fit(x, np.zeros(20))
