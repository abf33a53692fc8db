"""SFDA, ETran, NCTI, PARC and EMMS against the plainest programs of their definitions, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from scipy.stats import spearmanr
from sklearn.datasets import load_iris

from stages.rank import METRICS, Statistics, score_pool
from stages.rank.__main__ import score_candidate
from stages.rank.emms import emms_embeddings
from stages.rank.fisher import largest_within
from stages.rank.parc import spearman_of_two_groups
from stages.rank.sampling import evenly
from stages.tables import join_pools

Inputs = tuple[NDArray, NDArray]


def draw(n: int, d: int, classes: int, apart: float, seed: int = 0, scale: float = 1.0) -> Inputs:
    """Gaussian classes whose centres lie `apart` standard deviations from the origin on average."""
    stream = np.random.default_rng(seed)
    labels = stream.permutation(np.arange(n) % classes)
    scales = np.exp(stream.normal(size=d))
    return scale * scales * (apart * stream.normal(size=(classes, d))[labels] + stream.normal(size=(n, d))), labels


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
        "wide and small": draw(40, 64, 4, 0.5, scale=0.1),  # regularised: lam is not at its least
        "many dimensions": draw(200, 90, 4, 0.3, scale=0.2),  # more than NCTI's components and the dense eigenvalues
        "square": draw(24, 24, 3, 0.5, scale=0.3),
        "one-sample class": (plain[0], lonely),
        "constant feature": (flat, plain[1]),
        "large offset": (plain[0] + 1e4, plain[1]),
        "tiny scale": (plain[0] * 1e-3, plain[1]),
    }


CASES = cases()


def within(features: NDArray, labels: NDArray) -> NDArray:
    return sum(np.mean(labels == c) * np.cov(features[labels == c], rowvar=False, bias=True) for c in np.unique(labels))


def posterior(features: NDArray, labels: NDArray, covariance: NDArray) -> NDArray:
    """Bayes' rule for Gaussian classes of one covariance, from squared distances."""
    inverse, logits = np.linalg.inv(covariance), []
    for c in np.unique(labels):
        apart = features - features[labels == c].mean(axis=0)
        logits.append(np.log(np.mean(labels == c)) - np.einsum("nd,de,ne->n", apart, inverse, apart) / 2)
    return softmax(np.stack(logits, axis=1), axis=1)


def regularised(covariance: NDArray, lam: float) -> NDArray:
    size = len(covariance)
    return (1 - lam) * covariance + lam * np.trace(covariance) / size * np.eye(size)


def own(table: NDArray, labels: NDArray) -> NDArray:
    return table[np.arange(len(labels)), np.unique(labels, return_inverse=True)[1]]


def first(features: NDArray, labels: NDArray) -> tuple[NDArray, float]:
    centred = features - features.mean(axis=0)
    covariance = within(centred, labels)
    lam = max(np.exp(-5 * np.linalg.eigvalsh(covariance)[-1]), 1e-10)
    return posterior(centred, labels, regularised(covariance, lam)), lam


def sfda(features: NDArray, labels: NDArray) -> dict[str, float]:
    p, lam = first(features, labels)
    q = own(softmax(p, axis=1), labels)
    means = {c: features[labels == c].mean(axis=0) for c in np.unique(labels)}
    mixed = np.array([
        confidence * row + (1 - confidence) * np.mean([means[c] for c in means if c != label], axis=0)
        for row, label, confidence in zip(features, labels, q, strict=True)
    ])  # fmt: skip
    mixed -= mixed.mean(axis=0)
    return {"sfda": float(own(posterior(mixed, labels, regularised(within(mixed, labels), lam)), labels).mean())}


def etran(features: NDArray, labels: NDArray) -> dict[str, float]:
    lda = own(first(features, labels)[0], labels).mean()
    return {"etran:energy": float(logsumexp(features, axis=1).mean()), "etran:lda": float(lda)}


def components(features: NDArray, most: int) -> NDArray:
    centred = features - features.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    kept = int((singular > singular[0] * 1e-6).sum())
    return centred @ axes[: min(most, kept)].T


def ncti(features: NDArray, labels: NDArray) -> dict[str, float]:
    rows = components(features, 64)
    t = max(np.exp(-rows.var(axis=0, ddof=1)[:32].sum()), 1e-10)
    covariance = regularised(within(rows, labels), t)
    z = posterior(rows, labels, covariance)
    means = np.stack([rows[labels == label].mean(axis=0) for label in labels])
    axes = eigh(np.cov(means, rowvar=False, bias=True), covariance)[1][:, ::-1]
    projected = rows @ axes[:, : len(np.unique(labels)) - 1]
    return {
        "ncti:seli": float(np.linalg.norm(projected, "nuc")),
        "ncti:ncc": float(own(z, labels).mean()),
        "ncti:vc": -float(sum(np.linalg.norm(z[labels == c], "nuc") for c in np.unique(labels))),
    }


def parc(features: NDArray, labels: NDArray) -> dict[str, float]:
    rows = components(features, 32)
    rows = rows * np.sign((rows**3).mean(axis=0))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    onehot = (labels[:, None] == np.unique(labels)).astype(float)
    upper = np.triu_indices(len(labels), 1)
    # Rounded: samples of one class correlate by 1 give or take rounding, which spearmanr would take for an order.
    near, same = (np.round(1 - np.corrcoef(table), 9)[upper] for table in (rows, onehot))
    return {"parc": 100 * float(spearmanr(near, same).statistic)}


def emms(features: NDArray, labels: NDArray) -> dict[str, float]:
    onehot = (labels[:, None] == np.unique(labels)).astype(float)
    z = (onehot - onehot.mean(axis=0)) / onehot.std(axis=0)
    spread = features.std(axis=0)
    x = (features - features.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    return {"emms": -float(((x @ np.linalg.lstsq(x, z, rcond=1e-9)[0] - z) ** 2).mean())}


PLAIN: dict[str, Callable[[NDArray, NDArray], dict[str, float]]] = {
    "sfda": sfda, "etran": etran, "ncti": ncti, "parc": parc, "emms": emms,
}  # fmt: skip


def parts(name: str, features: NDArray, labels: NDArray) -> dict[str, float | None]:
    rows = METRICS[name].rows(name, Statistics(features, labels))
    return {part: score.value for part, score in rows.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLAIN)
def test_metric_is_its_definition(name: str, case: str) -> None:
    features, labels = CASES[case]
    assert parts(name, features, labels) == pytest.approx(PLAIN[name](features, labels), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLAIN)
def test_float32_gives_what_float64_gives(name: str, case: str) -> None:
    features, labels = CASES[case]
    single = features.astype(np.float32)
    found, exact = parts(name, single, labels), parts(name, single.astype(np.float64), labels)
    assert found == pytest.approx(exact, rel=1e-10)  # the arithmetic itself is in float64
    # The input is rounded to 24 bits, of which an offset of 1e4 leaves about 11.
    loose = 2e-3 if case == "large offset" else 1e-4
    assert found == pytest.approx(parts(name, features, labels), rel=loose, abs=loose)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_rotation_order_and_names_do_not_matter(seed: int, wide: bool) -> None:
    features, labels = draw(40, 60, 3, 0.7, seed, 0.2) if wide else draw(60, 5, 3, 0.7, seed)
    stream = np.random.default_rng(seed)
    turn = np.linalg.qr(stream.normal(size=(features.shape[1],) * 2))[0]
    rows, columns, names = stream.permutation(len(labels)), stream.permutation(features.shape[1]), stream.permutation(3) * 5
    for name in PLAIN:
        before = parts(name, features, labels)
        moved = parts(name, features[np.ix_(rows, columns)], names[labels][rows])
        assert moved == pytest.approx(before, rel=1e-6, abs=1e-8), name
        turned = parts(name, features @ turn, labels)
        for part in set(before) - {"etran:energy"}:  # of the axes, as they are
            assert turned[part] == pytest.approx(before[part], rel=1e-6, abs=1e-8), part


def test_a_pool_is_stretched_and_added_up() -> None:
    """NCTI and ETran from components that are computed here, over three candidates of different widths."""
    pool = [draw(60, d, 3, apart, d) for d, apart in ((4, 0.2), (9, 1.0), (70, 0.5))]
    pool = [(features, pool[0][1]) for features, _ in pool]
    for name in ("ncti", "etran"):
        table = np.array([list(PLAIN[name](*candidate).values()) for candidate in pool])
        expected = ((table - table.min(axis=0)) / np.ptp(table, axis=0)).sum(axis=1)
        assert [score.value for score in score_pool(pool, METRICS[name])] == pytest.approx(expected.tolist(), rel=1e-6)


def test_limits_and_their_warnings() -> None:
    features, labels = draw(90, 6, 4, 500)
    score = METRICS["sfda"](features, labels)
    assert score.value == pytest.approx(1)
    assert "upper limit" in str(score.warning)
    assert "saturates" in str(METRICS["sfda"](*draw(40, 64, 4, 0)).warning)
    assert METRICS["emms"](*draw(40, 64, 4, 0)).value == pytest.approx(0, abs=1e-9)
    assert "fits any labels" in str(METRICS["emms"](*draw(40, 64, 4, 0)).warning)
    assert "too few samples" in str(METRICS["ncti"].rows("ncti", Statistics(*draw(40, 64, 4, 0)))["ncti:ncc"].warning)
    collapsed = np.eye(4)[labels]
    assert METRICS["sfda"](collapsed, labels).value == pytest.approx(1)
    assert METRICS["emms"](collapsed, labels).value == pytest.approx(0, abs=1e-12)
    nothing = METRICS["parc"](features, np.arange(90))
    assert nothing.value is None
    assert "no pairs of one class" in str(nothing.warning)
    assert METRICS["parc"](features[:, :1], labels).value is None


def test_classes_that_coincide_share_their_posterior() -> None:
    labels = np.repeat([0, 1, 2], 20)
    features = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])[labels]
    assert METRICS["sfda"](features, labels).value == pytest.approx(2 / 3, rel=1e-6)  # halves, halves, and one


def test_iris_separates_by_the_definition() -> None:
    features, labels = load_iris(return_X_y=True)
    for name, plain in PLAIN.items():
        assert parts(name, features, labels) == pytest.approx(plain(features, labels), rel=1e-6), name


def test_largest_eigenvalue_by_both_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(0)
    rows, labels = stream.normal(size=(300, 120)), np.arange(300) % 5
    rows[:, 0] += 50 * labels  # the first principal axis is one between classes
    statistics = Statistics(rows, labels)
    centres = (statistics.spectrum.class_sums / statistics.counts).T
    expected = np.linalg.eigvalsh(within(rows, labels))[-1]
    for dense in (0, 10_000):
        monkeypatch.setattr("stages.rank.fisher.DENSE", dense)
        found = largest_within(statistics.spectrum.values / 300, centres * np.sqrt(1 / 5))
        assert found == pytest.approx(expected, rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.lists(st.integers(0, 6), min_size=2, max_size=30))
def test_spearman_with_ties(low: list[int], high: list[int]) -> None:
    found = spearman_of_two_groups(np.array(low, dtype=float), np.array(high, dtype=float))
    if len({*low, *high}) == 1:
        assert found is None
    else:
        expected = spearmanr([*low, *high], [0] * len(low) + [1] * len(high)).statistic
        assert found == pytest.approx(expected, abs=1e-12)


def test_parc_on_a_sample_is_near_parc_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = draw(1500, 12, 3, 0.7)
    whole = METRICS["parc"](features, labels)
    assert whole.warning is None
    monkeypatch.setattr("stages.rank.parc.MOST", 500)
    part = METRICS["parc"](features, labels)
    assert part.value == pytest.approx(whole.value, abs=2)
    assert "on 500 of 1500 samples" in str(part.warning)
    statistics = Statistics(features, np.repeat([0, 1, 2], [900, 500, 100]))
    chosen = evenly(statistics, 150)
    assert len(set(chosen.tolist())) == 150
    assert np.bincount(statistics.labels[chosen]).tolist() == [90, 50, 10]


def test_emms_finds_the_best_mixture_of_embeddings() -> None:
    stream = np.random.default_rng(3)
    x, hidden = stream.normal(size=(80, 7)), stream.normal(size=(7, 3))
    noise = [0.5, 1.0, 3.0]
    z = np.stack([x @ hidden + level * stream.normal(size=(80, 3)) for level in noise], axis=2)
    score, weights = emms_embeddings(x, z)
    standard = (z - z.mean(axis=0)) / z.std(axis=0)
    centred = x - x.mean(axis=0)
    project = np.eye(80) - centred @ np.linalg.pinv(centred)

    def loss(logits: NDArray) -> float:
        return float(((project @ (standard @ softmax(logits))) ** 2).mean())

    best = min((minimize(loss, start, tol=1e-14) for start in stream.normal(size=(5, 3))), key=lambda found: found.fun)
    assert score.value == pytest.approx(-best.fun, rel=1e-6)
    assert weights == pytest.approx(softmax(best.x), abs=1e-3)
    assert weights[0] > weights[1] > weights[2]
    assert weights.sum() == pytest.approx(1)
    labels = np.arange(80) % 4
    alone = emms_embeddings(x, np.eye(4)[labels][:, :, None])[0]
    assert alone.value == pytest.approx(METRICS["emms"](x, labels).value, rel=1e-10)
    assert alone.value == pytest.approx(METRICS["h_score"](x, labels).value / 3 - 1, rel=1e-10)
    constant = emms_embeddings(x, np.ones((80, 3, 1)))[0]
    assert constant.value == 0
    with pytest.raises(ValueError, match="label embeddings"):
        emms_embeddings(x, np.eye(4)[labels])


def test_the_tables_stage_joins_what_candidates_left() -> None:
    """Components written by processes of their own give, joined, what a pool scored at once gives."""
    pool = {f"e{d}": draw(60, d, 3, 0.7, d)[0] for d in (4, 9, 70)}
    labels = draw(60, 4, 3, 0.7, 4)[1]
    rows = [
        {"target": "t", "encoder": encoder, "layer": "pooled", **row}
        for encoder, features in pool.items()
        for row in score_candidate(Statistics(features, labels), ["ncti", "sfda", "etran"])
    ]
    joined = join_pools(pl.DataFrame(rows), ["ncti", "sfda", "etran"])
    assert sorted(joined["metric"].unique()) == ["etran", "ncti", "sfda"]
    for name in ("ncti", "etran"):
        expected = score_pool([(features, labels) for features in pool.values()], METRICS[name])
        found = joined.filter(pl.col("metric") == name).sort(pl.col("encoder").cast(pl.Enum(list(pool))))
        assert found["score"].to_list() == [score.value for score in expected]
        assert found["warning"].to_list() == [score.warning for score in expected]
