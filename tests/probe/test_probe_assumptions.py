"""The distance from naive Bayes' assumption: closed forms, scikit-learn's Ledoit-Wolf, and inputs that define nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.covariance import ledoit_wolf

from stages.assumptions import winners
from stages.probe import assumptions as module
from stages.probe.assumptions import Assumptions, assumptions

RANDOM = np.random.default_rng


def classes(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.concatenate([np.arange(k), RANDOM(seed).integers(k, size=n - k)])


def equicorrelated(n: int, d: int, rho: float, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Classes with far-apart means whose dimensions have correlation rho within."""
    random, y = RANDOM(1), classes(n, k)
    x = np.sqrt(1 - rho) * random.standard_normal((n, d)) + np.sqrt(rho) * random.standard_normal((n, 1))
    return x * np.linspace(0.1, 30, d) + 100 * random.standard_normal((k, d))[y], y


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_equal_correlation_has_the_closed_form(rho: float) -> None:
    n, d = 20_000, 12
    found = assumptions(*equicorrelated(n, d, rho))
    expected = -(np.log(1 + (d - 1) * rho) + (d - 1) * np.log(1 - rho)) / (2 * d)
    assert found.divergence_per_dim == pytest.approx(expected, rel=0.03)
    assert found.mean_absolute_correlation == pytest.approx(rho, rel=0.03)
    assert found.effective_rank_share == pytest.approx(1 / (1 + (d - 1) * rho**2), rel=0.03)
    assert found.warning is None


@pytest.mark.parametrize("n", [60, 300, 5000])
def test_independent_dimensions_are_at_no_distance_however_few_examples(n: int) -> None:
    found = assumptions(RANDOM(2).standard_normal((n, 100)), classes(n, 5))
    assert found.divergence_per_dim == pytest.approx(0, abs=1e-2)
    assert found.shrinkage is not None
    assert found.shrinkage > 0.8
    assert found.mean_absolute_correlation == pytest.approx(found.correlation_by_chance, rel=0.05)
    assert found.effective_rank_share == pytest.approx(1, abs=0.02)


def test_brute_force_in_float64() -> None:
    x, y = equicorrelated(300, 20, 0.3)
    residuals = np.concatenate([x[y == c] - x[y == c].mean(axis=0) for c in np.unique(y)])
    variance = (residuals**2).mean(axis=0)
    shrunk, weight = ledoit_wolf(residuals / np.sqrt(variance), assume_centered=True)
    found = assumptions(x, y)
    assert found.shrinkage == pytest.approx(weight, rel=1e-9)
    assert found.divergence_per_dim == pytest.approx(-np.log(np.linalg.eigvalsh(shrunk)).sum() / 40, rel=1e-9)
    eigenvalues = np.linalg.eigvalsh(shrunk)
    assert found.effective_rank_share == pytest.approx(eigenvalues.sum() ** 2 / (20 * (eigenvalues**2).sum()), rel=1e-9)
    quantiles = [found.variance_q05, found.variance_q25, found.variance_q50, found.variance_q75, found.variance_q95]
    np.testing.assert_allclose(quantiles, np.quantile(variance, [0.05, 0.25, 0.5, 0.75, 0.95]), rtol=1e-10)
    assert found.within_share == pytest.approx(np.median(variance / x.var(axis=0)), rel=1e-10)


def test_units_offsets_order_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = equicorrelated(400, 15, 0.4)
    reference = assumptions(x, y)
    moved = assumptions(1e-3 * x + 1e4, y)
    for name in ("divergence_per_dim", "mean_absolute_correlation", "effective_rank_share", "within_share", "shrinkage"):
        assert getattr(moved, name) == pytest.approx(getattr(reference, name), rel=1e-6), name
    order = RANDOM(3).permutation(len(y))
    assert assumptions(x[order], y[order]).divergence_per_dim == pytest.approx(reference.divergence_per_dim, rel=1e-9)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 15 * 7)
    assert assumptions(x, y).divergence_per_dim == pytest.approx(reference.divergence_per_dim, rel=1e-9)
    assert assumptions(x.astype(np.float32), np.array(["a", "b", "c", "d"])[y]).divergence_per_dim == pytest.approx(
        reference.divergence_per_dim, rel=1e-3
    )


def test_a_memory_map_is_read_as_the_array_is(tmp_path: Path) -> None:
    x, y = equicorrelated(200, 8, 0.2)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert assumptions(mapped, y) == assumptions(x, y)
    chosen = np.flatnonzero(np.arange(200) % 3)
    assert assumptions(mapped, y[chosen], chosen) == assumptions(x[chosen], y[chosen])


def test_fewer_examples_than_dimensions_rest_on_shrinkage_and_say_so() -> None:
    found = assumptions(*equicorrelated(50, 200, 0.5))
    assert found.divergence_per_dim is not None
    assert np.isfinite(found.divergence_per_dim)
    assert found.divergence_per_dim > 0.1
    assert found.warning == "46 degrees of freedom for 200 dimensions: the divergence rests on shrinkage"


def test_constant_dimensions_are_left_out_of_everything() -> None:
    x, y = equicorrelated(300, 10, 0.5)
    padded = np.column_stack([x, np.full(300, 7.1), 1e6 + 0.1 * y])  # constant, and constant within every class
    found = assumptions(padded, y)
    assert found.n_constant == 2
    assert found.d == 12
    assert found.divergence_per_dim == pytest.approx(assumptions(x, y).divergence_per_dim, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "warning"),
    [
        (np.zeros((6, 3)), [0, 1, 0, 1, 0, 1], "no dimension varies within a class"),
        (RANDOM(0).standard_normal((4, 3)), [0, 1, 2, 3], "no dimension varies within a class"),
        (RANDOM(0).standard_normal((6, 1)), [0, 1, 0, 1, 0, 1], "a single dimension varies, which is correlated with none"),
    ],
)
def test_what_defines_nothing_is_null_with_a_reason(x: np.ndarray, y: list[int], warning: str) -> None:
    found = assumptions(x, np.array(y))
    assert isinstance(found, Assumptions)
    assert (found.divergence_per_dim, found.warning) == (None, warning)


def test_copies_of_a_dimension() -> None:
    base = RANDOM(0).standard_normal((2000, 1))
    found = assumptions(np.repeat(base, 3, axis=1), np.zeros(2000, dtype=int))
    assert found.mean_absolute_correlation == pytest.approx(1)
    assert found.divergence_per_dim is None or found.divergence_per_dim > 1


def curves(naive_bayes: list[float], logistic: list[float]) -> pl.DataFrame:
    rows = [
        {"head": head, "m": m, "seed": seed, "error": error + 0.01 * seed}
        for head, errors in (("naive_bayes", naive_bayes), ("logistic", logistic))
        for m, error in zip((10, 100), errors, strict=False)
        for seed in (0, 1)
    ]
    return pl.DataFrame(rows, schema={"head": pl.String, "m": pl.Int64, "seed": pl.Int64, "error": pl.Float64})


def test_who_won() -> None:
    won = winners(curves([0.3, 0.3], [0.5, 0.1]))
    assert (won["winner_at_fewest"], won["winner_at_most"]) == ("naive_bayes", "logistic")
    assert won["naive_bayes_error"] == pytest.approx(0.305)
    assert won["logistic_error"] == pytest.approx(0.105)
    assert winners(curves([0.3, 0.2], [0.4, 0.2]))["winner_at_most"] is None
    assert set(winners(curves([0.3, 0.2], [])).values()) == {None}
