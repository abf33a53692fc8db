"""LDA, linear cross-validation, PACTran and NLEEP: metrics that fit a model, against the plainest programs of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import LeaveOneOut, cross_val_score

from stages.rank import METRICS, Statistics, lda, softmax_regression
from stages.rank.linear_cv import folds
from stages.rank.nleep import posteriors
from stages.rank.sampling import evenly

Inputs = tuple[NDArray, NDArray]


def draw(n: int, d: int, classes: int, apart: float, seed: int = 0) -> Inputs:
    """Gaussian classes whose centres lie `apart` standard deviations from the origin on average."""
    stream = np.random.default_rng(seed)
    labels = stream.permutation(np.arange(n) % classes)
    scales = np.exp(stream.normal(size=d))
    return 3 * scales * (apart * stream.normal(size=(classes, d))[labels] + stream.normal(size=(n, d))), labels


def cases() -> dict[str, Inputs]:
    plain = draw(90, 6, 4, 0.5)
    lonely, flat = plain[1].copy(), plain[0].copy()
    lonely[0] = 9
    flat[:, 2] = 5
    return {
        "random": draw(90, 6, 4, 0),
        "overlapping": plain,
        "separable": draw(90, 6, 3, 20),
        "wide": draw(40, 64, 4, 0.5),
        "square": draw(24, 24, 3, 0.5),
        "one-sample class": (plain[0], lonely),
        "constant feature": (flat, plain[1]),
        "large offset": (plain[0] + 1e4, plain[1]),
        "small classes": (plain[0][:24], np.repeat([0, 1, 2, 3, 4, 5], [9, 6, 3, 3, 2, 1])),
        "tiny scale": (plain[0] * 1e-3, plain[1]),
    }


CASES = cases()


def lda_left_out(features: NDArray, labels: NDArray) -> float:
    means = {c: features[labels == c].mean(axis=0) for c in np.unique(labels)}
    residuals = features - np.array([means[c] for c in labels])
    fitted = LedoitWolf(assume_centered=True).fit(residuals)
    (n, d), right = features.shape, 0
    ridge = fitted.shrinkage_ * (residuals**2).sum() / n / d
    for i in range(n):
        x, y = np.delete(features, i, axis=0), np.delete(labels, i)
        centres = {c: x[y == c].mean(axis=0) for c in np.unique(y)}
        rest = x - np.array([centres[c] for c in y])
        inverse = np.linalg.inv((1 - fitted.shrinkage_) * rest.T @ rest / (n - 1) + ridge * np.eye(d))
        scores = {c: np.log(np.mean(y == c)) - (features[i] - m) @ inverse @ (features[i] - m) / 2 for c, m in centres.items()}
        right += max(scores, key=scores.__getitem__) == labels[i]
    return right / n


def linear_cross_validated(features: NDArray, labels: NDArray) -> float:
    distances = ((features - features.mean(axis=0)) ** 2).sum(axis=1)
    x = features / np.sqrt(features.var(axis=0).mean())
    fold = np.empty(len(labels), dtype=int)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        for place, member in enumerate(members[np.argsort(distances[members])]):
            fold[member] = place % 5
    right = 0
    for held_out in range(5):
        inside = fold != held_out
        middle = x[inside].mean(axis=0)
        model = LogisticRegression(C=1.0, tol=1e-9, max_iter=100_000).fit(x[inside] - middle, labels[inside])
        right += int((model.predict(x[~inside] - middle) == labels[~inside]).sum())
    return right / len(labels)


def pactran(features: NDArray, labels: NDArray) -> float:
    names, y = np.unique(labels, return_inverse=True)
    x = features - features.mean(axis=0)
    (n, d), c = x.shape, len(names)

    def loss(theta: NDArray) -> tuple[float, NDArray]:
        w, b = theta[: d * c].reshape(d, c), theta[d * c :]
        logits = x @ w + b
        wrong = softmax(logits, axis=1) - np.eye(c)[y]
        value = -log_softmax(logits, axis=1)[np.arange(n), y].mean() + (w**2).sum() / (2 * n)
        return float(value), np.concatenate([(x.T @ wrong / n + w / n).ravel(), wrong.mean(axis=0)])

    options = {"maxiter": 20_000, "maxfun": 200_000, "gtol": 1e-12, "ftol": 1e-16, "maxcor": 100}
    found = minimize(loss, np.zeros(d * c + c), jac=True, method="L-BFGS-B", options=options)
    p = softmax(x @ found.x[: d * c].reshape(d, c) + found.x[d * c :], axis=1)
    trace = sum(p[i, k] * (1 - p[i, k]) * (x[i] @ x[i] + 1) for i in range(n) for k in range(c)) / n
    return -(found.fun + c * d * (100 / d) / (2 * n) * np.log(1 + n / (d * c) * trace))


def nleep(features: NDArray, labels: NDArray) -> float:
    rows = PCA(0.8, svd_solver="full").fit_transform(features)
    rows /= rows[:, 0].std()
    clusters = min(5 * len(np.unique(labels)), len(rows))
    taken = [int(np.argmax(np.linalg.norm(rows, axis=1)))]
    while len(taken) < clusters:
        taken.append(int(np.argmax(np.min([np.linalg.norm(rows - rows[i], axis=1) for i in taken], axis=0))))
    hard = KMeans(clusters, init=rows[taken], n_init=1, tol=0, algorithm="lloyd").fit(rows).labels_
    groups = [rows[hard == z] for z in range(clusters)]
    mixture = GaussianMixture(
        clusters,
        weights_init=[len(group) / len(rows) for group in groups],
        means_init=[group.mean(axis=0) for group in groups],
        precisions_init=[
            np.linalg.inv(np.atleast_2d(np.cov(group, rowvar=False, bias=True)) + 1e-6 * np.eye(rows.shape[1]))
            for group in groups
        ],
    )
    p = mixture.fit(rows).predict_proba(rows)
    total = 0.0
    for i, label in enumerate(labels):
        total += np.log(sum(p[labels == label, z].sum() / p[:, z].sum() * p[i, z] for z in range(clusters)))
    return total / len(labels)


PLAIN: dict[str, Callable[[NDArray, NDArray], float]] = {
    "lda": lda_left_out, "linear_cv": linear_cross_validated, "pactran_gauss": pactran, "nleep": nleep,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["lda", "linear_cv", "pactran_gauss"])
def test_metric_is_its_definition(name: str, case: str) -> None:
    features, labels = CASES[case]
    assert METRICS[name](features, labels).value == pytest.approx(PLAIN[name](features, labels), rel=1e-5, abs=1e-6)


# A cluster of one sample has no covariance but what is added to it, which the inverse of the plain program loses.
@pytest.mark.parametrize("case", ["random", "overlapping", "separable", "constant feature", "large offset", "tiny scale"])
def test_nleep_is_its_definition(case: str) -> None:
    features, labels = CASES[case]
    assert METRICS["nleep"](features, labels).value == pytest.approx(nleep(features, labels), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("case", ["random", "overlapping", "separable", "wide", "large offset", "constant feature"])
@pytest.mark.parametrize("name", PLAIN)
def test_float32_gives_what_float64_gives(name: str, case: str) -> None:
    features, labels = CASES[case]
    single = features.astype(np.float32)
    found, exact = METRICS[name](single, labels), METRICS[name](single.astype(np.float64), labels)
    assert found.value == pytest.approx(exact.value, rel=1e-9)  # the arithmetic itself is in float64
    if name == "pactran_gauss":  # the others count samples, or follow clusters, on which a rounded feature may turn one
        loose = 2e-3 if case == "large offset" else 1e-4
        assert found.value == pytest.approx(METRICS[name](features, labels).value, rel=loose)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_rotation_order_and_names_do_not_matter(seed: int, wide: bool) -> None:
    features, labels = draw(40, 60, 3, 0.7, seed) if wide else draw(60, 5, 3, 0.7, seed)
    stream = np.random.default_rng(seed)
    turn = np.linalg.qr(stream.normal(size=(features.shape[1],) * 2))[0]
    rows, columns, names = stream.permutation(len(labels)), stream.permutation(features.shape[1]), stream.permutation(3) * 5
    for name in PLAIN:
        before = METRICS[name](features, labels).value
        moved = METRICS[name](features[np.ix_(rows, columns)], names[labels][rows]).value
        assert moved == pytest.approx(before, rel=1e-6), name
        assert METRICS[name](features @ turn, labels).value == pytest.approx(before, rel=1e-6), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-4, 1e4), st.floats(-1e5, 1e5))
def test_scale_and_offset_do_not_matter_where_features_are_brought_to_one_scale(
    seed: int, factor: float, offset: float
) -> None:
    features, labels = draw(60, 5, 3, 0.7, seed)
    for name in ("lda", "linear_cv", "nleep"):
        before = METRICS[name](features, labels).value
        assert METRICS[name](features * factor, labels).value == pytest.approx(before, rel=1e-6), name
    for name in ("lda", "linear_cv"):
        assert METRICS[name](features + offset, labels).value == METRICS[name](features, labels).value, name
    assert METRICS["pactran_gauss"](features + offset, labels).value == pytest.approx(
        METRICS["pactran_gauss"](features, labels).value, rel=1e-6
    )


def test_accuracies_on_iris_are_those_of_the_library() -> None:
    """Leave-one-out LDA without shrinkage gets 147 of Fisher's 150 irises."""
    features, labels = load_iris(return_X_y=True)
    expected = cross_val_score(LinearDiscriminantAnalysis(), features, labels, cv=LeaveOneOut()).mean()
    assert expected == pytest.approx(147 / 150)
    assert METRICS["lda"](features, labels).value == pytest.approx(expected, abs=1.5 / 150)  # ours shrinks
    assert METRICS["linear_cv"](features, labels).value == pytest.approx(0.96, abs=0.02)


def test_what_only_the_training_samples_know_does_not_count() -> None:
    """Labels without meaning on more dimensions than samples: a fit is perfect, an honest baseline is not."""
    features, labels = draw(60, 200, 3, 0, 1)
    for name in ("lda", "linear_cv"):
        assert METRICS[name](features, labels).value < 0.6
    assert METRICS["sfda"](features, labels).value == pytest.approx(1)


def test_both_routes_of_lda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many samples as dimensions and one sample more take different routes; on copied columns they must agree."""
    features, labels = draw(60, 20, 3, 0.7)
    doubled = np.concatenate([features] * 4, axis=1) / 2  # 80 dimensions that span 20: the n x n route
    wide, tall = Statistics(doubled, labels), Statistics(features, labels)
    assert wide.spectrum.left is not None
    assert tall.spectrum.left is None
    monkeypatch.setattr(lda, "shrinkage", lambda statistics, centres: (0.3, 1.0 * statistics.d))
    assert lda.hits(wide)[0] == lda.hits(tall)[0]


def test_warnings_and_limits() -> None:
    features, labels = CASES["small classes"]
    assert METRICS["lda"](features, labels).warning == "1 classes of one sample are always missed"
    assert "fewer than 5 samples" in str(METRICS["linear_cv"](features, labels).warning)
    assert METRICS["lda"](features, np.arange(24)).value == 0
    assert METRICS["linear_cv"](features, np.arange(24)).value is None
    apart, labels = draw(90, 6, 3, 500)
    assert METRICS["lda"](apart, labels).value == 1
    assert METRICS["linear_cv"](apart, labels).value == 1
    assert METRICS["nleep"](apart, labels).value == pytest.approx(0, abs=1e-9)
    assert "its own few samples" in str(METRICS["nleep"](*draw(40, 64, 4, 0)).warning)
    assert "one a sample" in str(METRICS["nleep"](*draw(15, 3, 4, 0)).warning)
    constant = METRICS["pactran_gauss"](np.ones((90, 6)), labels)
    assert constant.value == pytest.approx(-(np.log(3) + 3 * 100 / 180 * np.log(1 + 90 / 18 * 2 / 3)))
    assert "constant" in str(constant.warning)


def test_sampling_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = draw(300, 6, 3, 0.7)
    for name, module in (("pactran_gauss", "pactran"), ("linear_cv", "linear_cv"), ("nleep", "nleep")):
        whole = METRICS[name](features, labels)
        monkeypatch.setattr(f"stages.rank.{module}.MOST", 150)
        part = METRICS[name](features, labels)
        assert "on 150 of 300 samples" in str(part.warning)
        assert whole.warning is None or "samples" not in whole.warning
        if name == "pactran_gauss":  # a bound is of its number of samples
            whole = METRICS[name](*(table[evenly(Statistics(features, labels), 150)] for table in (features, labels)))
        assert part.value == pytest.approx(whole.value, rel=1e-6 if name == "pactran_gauss" else 0.2)


def test_folds_are_alike() -> None:
    labels = np.repeat([0, 1, 2], [50, 23, 3])
    fold = folds(labels, np.random.default_rng(0).normal(size=76))
    assert [np.bincount(fold[labels == c], minlength=5).tolist() for c in range(3)] == [
        [10] * 5, [5, 5, 5, 4, 4], [1, 1, 1, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("apart", [0, 1, 30])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_softmax_regression_is_at_its_minimum(apart: float, scale: float) -> None:
    features, labels = draw(80, 7, 3, apart)
    rows = scale * (features - features.mean(axis=0))
    found = softmax_regression.fit(rows, labels, 3, np.full(7, 1 / 80), 1e-11)
    assert found.converged
    wrong = softmax(rows @ found.weights + found.offsets, axis=1) - np.eye(3)[labels]
    gradient = rows.T @ wrong / 80 + found.weights / 80
    assert np.abs(gradient).max() < 1e-8 * scale * np.abs(features).max()
    assert np.abs(wrong.mean(axis=0)).max() < 1e-8
    if scale == 1:
        model = LogisticRegression(C=1.0, tol=1e-12, max_iter=100_000).fit(rows, labels)
        np.testing.assert_allclose(found.weights, model.coef_.T, atol=1e-5)


def test_posteriors_are_those_of_gaussians_that_are_known() -> None:
    """Two clusters far apart: the mixture's Gaussians are the clusters' own moments."""
    stream = np.random.default_rng(0)
    rows = np.concatenate([stream.normal(size=(60, 2)), stream.normal(size=(40, 2)) * [1, 2] + 6])
    found, settled = posteriors(rows, 2)
    assert settled
    order = found[:60].mean(axis=0).argmax()
    start = found
    for _ in range(200):  # expectation maximisation to its end, from the answer
        shares = found.mean(axis=0)
        densities = []
        for z in range(2):
            weights = found[:, z] / found[:, z].sum()
            mean = weights @ rows
            cov = (rows - mean).T @ ((rows - mean) * weights[:, None])
            densities.append(shares[z] * multivariate_normal(mean, cov).pdf(rows))
        found = np.stack(densities, axis=1) / np.sum(densities, axis=0)[:, None]
    np.testing.assert_allclose(start, found, atol=0.02)
    assert (found.argmax(axis=1) == np.repeat([order, 1 - order], [60, 40])).mean() > 0.97


@pytest.mark.parametrize("wide", [False, True])
def test_the_minimum_is_reached_where_values_no_longer_tell_points_apart(wide: bool) -> None:
    for seed in (6, 42, 63, 66, 97, 110, 114, 117, 125, *range(20)):
        features, labels = draw(40, 60, 3, 0.7, seed) if wide else draw(60, 5, 3, 0.7, seed)
        assert METRICS["pactran_gauss"](features, labels).warning is None, seed
