"""Every metric against the plainest program of its definition, in float64, on inputs easy and degenerate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import digamma
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris

from stages.rank import METRICS

Inputs = tuple[NDArray, NDArray, NDArray]  # features [n, d], labels [n], source probabilities [n, s]


def draw(n: int, d: int, classes: int, apart: float, seed: int = 0) -> Inputs:
    """Gaussian classes whose centres lie `apart` standard deviations from the origin on average."""
    stream = np.random.default_rng(seed)
    labels = stream.permutation(np.arange(n) % classes)
    centres = apart * stream.normal(size=(classes, d))
    scales = np.exp(stream.normal(size=d))
    features = 3 * scales * (centres[labels] + stream.normal(size=(n, d)))
    return features, labels, stream.dirichlet(np.full(7, 0.3), n)


def cases() -> dict[str, Inputs]:
    """The inputs that every definition is checked on."""
    plain = draw(90, 6, 4, 0.5)
    lonely = plain[1].copy()
    lonely[0] = 9
    flat = plain[0].copy()
    flat[:, 2] = 5
    return {
        "random": draw(90, 6, 4, 0),
        "overlapping": plain,
        "separable": draw(90, 6, 3, 20),
        "wide": draw(40, 64, 4, 0.5),
        "square": draw(24, 24, 3, 0.5),
        "one-sample class": (plain[0], lonely, plain[2]),
        "constant feature": (flat, plain[1], plain[2]),
        "large offset": (plain[0] + 1e4, plain[1], plain[2]),
        "small classes": (plain[0][:24], np.repeat([0, 1, 2, 3, 4, 5], [9, 6, 3, 3, 2, 1]), plain[2][:24]),
        "tiny scale": (plain[0] * 1e-3, plain[1], plain[2]),
    }


CASES = cases()


def groups(features: NDArray, labels: NDArray) -> list[NDArray]:
    return [features[labels == label] for label in np.unique(labels)]


def entropy(features: NDArray, labels: NDArray, clamp: float) -> float:
    terms = []
    for group in groups(features, labels):
        n, d = group.shape
        if n == 1:
            terms.append(0.0)
        if n <= 3:
            continue
        distances = [sorted(np.abs(row - other).max() for other in group)[3] for row in group]  # place 0 is the row itself
        h = digamma(n) - digamma(3) + d / n * sum(np.log(2 * max(distance, clamp)) for distance in distances)
        terms.append(n / len(features) * h)
    return float(np.mean(terms))


def between(features: NDArray, labels: NDArray) -> NDArray:
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    return np.cov(means, rowvar=False)


def h_score(features: NDArray, labels: NDArray) -> float:
    centred = features - features.mean(axis=0)
    inverse = np.linalg.pinv(np.cov(centred, rowvar=False), rcond=1e-12, hermitian=True)
    return float(np.trace(inverse @ between(centred, labels)))


def regularized_h_score(features: NDArray, labels: NDArray) -> float:
    centred = features - features.mean(axis=0)
    fitted = LedoitWolf().fit(centred)
    return float(np.trace(np.linalg.pinv(fitted.covariance_) @ between(centred, labels)) * (1 - fitted.shrinkage_))


def evidence(features: NDArray, y: NDArray) -> float:
    """The largest log density of y under N(0, F F' / alpha + I / beta), per sample, found by a general optimiser."""
    gram, n = features @ features.T, len(y)
    size = np.trace(gram) / n

    def minus(point: NDArray) -> float:
        signal, noise = np.exp(point)
        if signal > 1e11 * noise:  # of rank d to float64: its determinant would be rounding
            return float("inf")
        covariance = signal * gram / size + noise * np.eye(n)
        determinant = np.linalg.slogdet(covariance)[1]
        return float(y @ np.linalg.solve(covariance, y) + determinant + n * np.log(2 * np.pi)) / 2

    starts = [(a, b) for a in (-8.0, -1.0, 6.0, 15.0) for b in (-6.0, -2.0)]
    found = [minimize(minus, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}) for start in starts]
    return -min(one.fun for one in found) / n


def logme(features: NDArray, labels: NDArray) -> float:
    return float(np.mean([evidence(features, (labels == label).astype(float)) for label in np.unique(labels)]))


def leep(labels: NDArray, p: NDArray) -> float:
    total = 0.0
    for i, label in enumerate(labels):
        total += np.log(sum(p[labels == label, z].sum() / p[:, z].sum() * p[i, z] for z in range(p.shape[1])))
    return total / len(labels)


def nce(labels: NDArray, p: NDArray) -> float:
    z, total = p.argmax(axis=1), 0.0
    for label in np.unique(labels):
        for source in np.unique(z):
            both = np.mean((labels == label) & (z == source))
            total += both * np.log(both / np.mean(z == source)) if both else 0
    return total


def knn(features: NDArray, labels: NDArray) -> float:
    right = 0
    for i, row in enumerate(features):
        order = [j for j in np.argsort([np.linalg.norm(row - other) for other in features]) if j != i][:5]
        votes = [sum(labels[other] == labels[j] for other in order) for j in order]
        right += labels[order[int(np.argmax(votes))]] == labels[i]
    return right / len(labels)


def rate(features: NDArray) -> float:
    return float(np.linalg.slogdet(np.eye(features.shape[1]) + features.T @ features / (len(features) * 1e-4))[1] / 2)


def transrate(features: NDArray, labels: NDArray) -> float:
    centred = features - features.mean(axis=0)
    return rate(centred) - float(np.mean([rate(group) for group in groups(centred, labels)]))


def gbc(features: NDArray, labels: NDArray) -> float:
    centred = features - features.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    kept = (singular > singular[0] * 1e-6)[:64]
    rows = (centred @ axes.T)[:, : len(kept)][:, kept]
    floor, total = 1e-6 * singular[0] ** 2 / len(features), 0.0
    for a in groups(rows, labels):
        for b in groups(rows, labels):
            if a is b or (a.shape == b.shape and (a == b).all()):
                continue
            va, vb = np.maximum(a.var(axis=0), floor), np.maximum(b.var(axis=0), floor)
            v = (va + vb) / 2
            distance = ((a.mean(axis=0) - b.mean(axis=0)) ** 2 / v).sum() / 8 + np.log(v / np.sqrt(va * vb)).sum() / 2
            total += np.exp(-distance)
    return -total


PLAIN: dict[str, Callable[[NDArray, NDArray, NDArray], float]] = {
    "tmi": lambda x, y, p: entropy(x, y, 1.0),
    "tmi_per_dim": lambda x, y, p: entropy(x, y, 1.0) / x.shape[1],
    "tmi_unclamped": lambda x, y, p: entropy(x, y, 0.0),
    "logme": lambda x, y, p: logme(x, y),
    "h_score": lambda x, y, p: h_score(x, y),
    "regularized_h_score": lambda x, y, p: regularized_h_score(x, y),
    "leep": lambda x, y, p: leep(y, p),
    "nce": lambda x, y, p: nce(y, p),
    "knn": lambda x, y, p: knn(x, y),
    "transrate": lambda x, y, p: transrate(x, y),
    "gbc": lambda x, y, p: gbc(x, y),
}


ELSEWHERE = {"sfda", "etran", "ncti", "parc", "emms", "lda", "linear_cv", "pactran_gauss", "nleep"}  # in the files beside


def test_every_metric_has_a_plain_program() -> None:
    assert set(PLAIN) | ELSEWHERE == set(METRICS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", sorted(PLAIN))
def test_metric_is_its_definition(name: str, case: str) -> None:
    features, labels, probabilities = CASES[case]
    score = METRICS[name](features, labels, probabilities)
    assert score.value == pytest.approx(PLAIN[name](features, labels, probabilities), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", ["random", "overlapping", "separable", "wide", "large offset", "constant feature"])
@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"knn"}))
def test_float32_gives_what_float64_gives(name: str, case: str) -> None:
    features, labels, probabilities = CASES[case]
    single, double = features.astype(np.float32), METRICS[name](features, labels, probabilities)
    score = METRICS[name](single, labels, probabilities.astype(np.float32))
    # The input is rounded to 24 bits, of which an offset of 1e4 leaves about 11.
    assert score.value == pytest.approx(double.value, rel=2e-3 if case == "large offset" else 1e-4, abs=1e-4)
    exact = METRICS[name](single.astype(np.float64), labels, probabilities.astype(np.float32))
    assert score.value == pytest.approx(exact.value, rel=1e-10)  # the arithmetic itself is in float64


def test_iris_golden_values() -> None:
    features, labels = load_iris(return_X_y=True)
    assert METRICS["logme"](features, labels).value == pytest.approx(-0.160060, abs=5e-7)
    assert METRICS["regularized_h_score"](features, labels).value == pytest.approx(1.17784, abs=5e-6)


EXACT = ["logme", "h_score", "regularized_h_score", "transrate", "gbc", "knn"]
ROTATED = EXACT  # Euclidean definitions; TMI's Chebyshev distance is of the axes


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_order_and_names_do_not_matter(seed: int, wide: bool) -> None:
    features, labels, p = draw(40, 60, 3, 0.7, seed) if wide else draw(60, 5, 3, 0.7, seed)
    stream = np.random.default_rng(seed)
    rows, columns = stream.permutation(len(features)), stream.permutation(features.shape[1])
    names, sources = stream.permutation(3) * 10 + 2, stream.permutation(p.shape[1])
    for name in PLAIN:
        first = METRICS[name](features, labels, p).value
        other = METRICS[name](features[np.ix_(rows, columns)], names[labels][rows], p[np.ix_(rows, sources)]).value
        assert other == pytest.approx(first, rel=1e-7, abs=1e-9), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_rotation_does_not_matter_to_euclidean_metrics(seed: int, wide: bool) -> None:
    features, labels, _ = draw(40, 60, 3, 0.7, seed) if wide else draw(60, 5, 3, 0.7, seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(features.shape[1],) * 2))[0]
    for name in ROTATED:
        turned = METRICS[name](features @ turn, labels).value
        assert turned == pytest.approx(METRICS[name](features, labels).value, rel=1e-6, abs=1e-9), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-4, 1e4))
def test_scale_does_not_matter_to_metrics_that_weigh_by_variance(seed: int, factor: float) -> None:
    features, labels, _ = draw(60, 5, 3, 0.7, seed)
    for name in ("logme", "h_score", "regularized_h_score", "gbc", "knn"):
        scaled = METRICS[name](features * factor, labels).value
        assert scaled == pytest.approx(METRICS[name](features, labels).value, rel=1e-6, abs=1e-9), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e5, 1e5))
def test_offset_does_not_matter_to_centred_metrics(seed: int, offset: float) -> None:
    features, labels, _ = draw(60, 5, 3, 0.7, seed)
    for name in ("tmi", "tmi_unclamped", "h_score", "regularized_h_score", "transrate", "gbc", "knn"):
        moved = METRICS[name](features + offset, labels).value
        assert moved == pytest.approx(METRICS[name](features, labels).value, rel=1e-6, abs=1e-8), name


def test_limits() -> None:
    features, labels, _ = draw(90, 6, 4, 500)
    assert METRICS["gbc"](features, labels).value == pytest.approx(0, abs=1e-12)
    assert METRICS["h_score"](features, labels).value == pytest.approx(3, rel=1e-3)
    assert METRICS["knn"](features, labels).value == 1
    same = np.tile(features[labels == 0][:20], (3, 1))
    assert METRICS["gbc"](same, np.repeat([0, 1, 2], 20)).value == pytest.approx(-6, rel=1e-9)
    perfect = np.eye(4)[labels]
    assert METRICS["leep"](features, labels, perfect).value == 0
    assert METRICS["nce"](features, labels, perfect).value == 0


def test_nce_closed_form() -> None:
    """Two source classes, of which one holds two target classes evenly: H(Y|Z) = ln 2 for half of the samples."""
    labels = np.repeat([0, 1, 2, 2], 10)
    z = np.repeat([0, 0, 1, 1], 10)
    score = METRICS["nce"](np.zeros((40, 1)), labels, np.eye(2)[z])
    assert score.value == pytest.approx(-0.5 * np.log(2), rel=1e-12)
    assert METRICS["leep"](np.zeros((40, 1)), labels, np.eye(2)[z]).value == pytest.approx(score.value, rel=1e-12)


def test_probabilities_that_say_nothing_give_the_entropy_of_the_labels() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    shares = np.array([1, 2, 3]) / 6
    score = METRICS["leep"](np.zeros((60, 1)), labels, np.full((60, 5), 0.2))
    assert score.value == pytest.approx(float(shares @ np.log(shares)), rel=1e-12)
