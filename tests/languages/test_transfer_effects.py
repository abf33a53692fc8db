"""Effects: a hand-made sandwich, planted coefficients, closed forms, and designs that are not of full rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy import stats

from stages.languages.explain import effects, independent, vif


def test_clustered_errors_equal_the_sandwich_written_out(planted: Callable[..., pl.DataFrame]) -> None:
    pairs = planted(6)
    found = effects(pairs).table
    rows = pairs.filter(pl.col("source") != pl.col("target")).sort("source", "target")
    columns = [rows[name].to_numpy() for name in ("irrelevant", "x_distance", "score")]
    a, b, y = [(column - column.mean()) / column.std() for column in columns]
    x = np.column_stack([np.ones(len(y)), a, b])
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ y
    residual = y - x @ beta
    targets = rows["target"].to_numpy()
    groups = np.unique(targets)
    meat = sum(np.outer(g, g) for t in groups if (g := x[targets == t].T @ residual[targets == t]) is not None)
    n, k, g = len(y), 3, len(groups)
    cov = bread @ meat @ bread * g / (g - 1) * (n - 1) / (n - k)
    error = np.sqrt(np.diag(cov))
    assert found["term"].to_list() == ["irrelevant", "x_distance"]
    np.testing.assert_allclose(found["beta_standardised"], beta[1:], rtol=1e-9)
    half = stats.t.ppf(0.975, g - 1) * error[1:]
    np.testing.assert_allclose(found["ci_high"], beta[1:] + half, rtol=1e-9)
    np.testing.assert_allclose(found["p_value"], 2 * stats.t.sf(np.abs(beta / error), g - 1)[1:], rtol=1e-7)


def test_planted_coefficients_lie_in_their_intervals(planted: Callable[..., pl.DataFrame]) -> None:
    inside = 0
    for seed in range(40):
        pairs = planted(14, seed=seed, noise=0.05, target_effect=0.0)
        rows = pairs.filter(pl.col("source") != pl.col("target"))
        true = -0.3 * rows["x_distance"].std(ddof=0) / rows["score"].std(ddof=0)
        row = effects(pairs).table.filter(pl.col("term") == "x_distance").row(0, named=True)
        inside += row["ci_low"] <= true <= row["ci_high"]
    assert 33 <= inside <= 40  # 38 expected at 95%


def test_vif_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 200))
    design = np.column_stack([a, 0.8 * a + 0.6 * b, c])
    design = (design - design.mean(0)) / design.std(0)
    r = float(np.corrcoef(design[:, 0], design[:, 1])[0, 1])
    assert vif(design[:, :2]) == pytest.approx([1 / (1 - r**2)] * 2)
    for column in range(3):
        rest = np.delete(design, column, axis=1)
        fitted = rest @ np.linalg.lstsq(rest, design[:, column], rcond=None)[0]
        r2 = float(fitted @ fitted / (design[:, column] @ design[:, column]))
        assert vif(design)[column] == pytest.approx(1 / (1 - r2))


def test_what_cannot_be_fitted_is_left_out_and_said(planted: Callable[..., pl.DataFrame]) -> None:
    pairs = planted(6).with_columns(
        same=pl.lit(1.0),
        twice=2 * pl.col("x_distance") + 1,
        rare=pl.when(pl.col("source") == "en").then(1.0),
        sometimes=pl.when(pl.col("source") != "l01").then(pl.col("irrelevant") ** 2),
        x_coverage=pl.lit(0.5),
    )
    found = effects(pairs)
    assert found.table["term"].to_list() == ["irrelevant", "sometimes", "twice"]
    notes = "\n".join(found.notes)
    assert "same left out, the same for all pairs" in notes
    assert "x_distance left out, linear in irrelevant, sometimes, twice" in notes
    assert "rare left out, unknown" in notes
    assert "5 of 30 pairs left out" in notes
    assert "coverage" not in notes


def test_nothing_to_fit_is_an_empty_table_with_a_note(planted: Callable[..., pl.DataFrame]) -> None:
    found = effects(planted(6).with_columns(score=pl.lit(0.5)))
    assert found.table.is_empty()
    assert "no fit" in found.notes[0]


def test_dependence_is_found_whatever_the_scale() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50))
    kept, notes = independent({"a": 1e6 * a + 1e3, "b": 1e-6 * b, "sum": a + b, "c": a + 1e-2 * rng.normal(size=50)})
    assert kept == ["a", "b", "c"]
    assert len(notes) == 1
