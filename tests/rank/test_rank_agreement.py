"""Agreement against SciPy itself, against numbers worked out by hand, and where it is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stages.artifacts import tables
from stages.rank import agreement

SCORES = [0.1, 0.9, 0.5, 0.7, 0.3]
ACCURACIES = [0.60, 0.70, 0.80, 0.65, 0.50]


def test_columns_are_those_of_the_table() -> None:
    assert set(agreement(SCORES, ACCURACIES, seed=0)) == set(tables.SCHEMAS["agreement"].values)


def test_correlations_are_scipys() -> None:
    stream = np.random.default_rng(0)
    x, y = stream.normal(size=12).round(1), stream.uniform(size=12).round(1)  # with ties
    found = agreement(x.tolist(), y.tolist(), seed=0)
    assert found["pearson"] == stats.pearsonr(x, y).statistic
    assert found["kendall"] == stats.kendalltau(x, y).statistic
    assert found["weighted_kendall"] == pytest.approx(stats.weightedtau(x, y).statistic, abs=1e-14)
    assert found["n_encoders"] == 12
    assert found["warning"] is None


def test_picks_by_hand() -> None:
    """By score: second (0.70), fourth (0.65), third (0.80); the best of all is 0.80."""
    found = agreement(SCORES, ACCURACIES, seed=0)
    assert found["relative_at_1"] == pytest.approx(0.70 / 0.80)
    assert found["relative_at_3"] == 1
    assert found["top1_regret"] == pytest.approx(0.10)
    lower = agreement(SCORES, ACCURACIES, higher_is_better=False, seed=0)  # picks first (0.60), fifth, third
    assert lower["relative_at_1"] == pytest.approx(0.60 / 0.80)
    assert lower["relative_at_3"] == 1
    assert lower["top1_regret"] == pytest.approx(0.20)
    tied = agreement([1, 1, 1, 0], [0.2, 0.4, 0.3, 0.5], seed=0)
    assert tied["relative_at_1"] == pytest.approx(0.4)  # the first of equals
    assert tied["relative_at_3"] == pytest.approx(0.8)


def test_direction() -> None:
    up = agreement(SCORES, ACCURACIES, seed=3)
    down = agreement([-score for score in SCORES], ACCURACIES, higher_is_better=False, seed=3)
    assert up == down


def test_interval_is_the_plain_bootstrap() -> None:
    found = agreement(SCORES, ACCURACIES, seed=7)
    x, y = np.array(SCORES), np.array(ACCURACIES)
    draws = np.random.default_rng(7).integers(0, 5, (1000, 5))
    taus = [stats.weightedtau(x[rows], y[rows]).statistic for rows in draws if len(set(rows.tolist())) > 1]
    low, high = np.quantile(taus, [0.025, 0.975])
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((low, high), rel=1e-12)
    assert agreement(SCORES, ACCURACIES, seed=7) == found
    assert low <= found["weighted_kendall"] <= high


def test_perfect_agreement() -> None:
    found = agreement([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], seed=0)
    assert [found[name] for name in ("kendall", "weighted_kendall", "ci_low", "ci_high")] == pytest.approx([1] * 4)
    assert found["pearson"] == pytest.approx(1)
    assert found["top1_regret"] == 0


CORRELATIONS = ("pearson", "kendall", "weighted_kendall", "ci_low", "ci_high")


@pytest.mark.parametrize(
    ("scores", "accuracies", "warning"),
    [
        ([], [], "0 encoders are too few"),
        ([1.0], [0.5], "1 encoders are too few"),
        ([1.0, 2.0], [0.5, 0.6], "2 encoders are too few"),
        ([None, 2.0, 3.0], [0.5, 0.6, 0.7], "1 encoders have no score or no accuracy; 2 encoders are too few"),
        ([1.0, 1.0, 1.0], [0.5, 0.6, 0.7], "all scores are equal"),
        ([0.1 + 0.2, 0.3, 0.3], [0.5, 0.6, 0.7], "all scores are equal"),
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], "all accuracies are equal"),
    ],
)
def test_undefined_is_null_with_a_reason(scores: list[float | None], accuracies: list[float], warning: str) -> None:
    found = agreement(scores, accuracies, seed=0)
    assert all(found[name] is None for name in CORRELATIONS)
    assert found["warning"].startswith(warning)
    assert (found["top1_regret"] is None) == (found["n_encoders"] == 0)


def test_an_accuracy_of_zero_has_no_relative() -> None:
    found = agreement([1, 2, 3], [0.0, 0.0, 0.0], seed=0)
    assert found["relative_at_1"] is None
    assert found["top1_regret"] == 0


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        agreement([1.0, float("nan")], [0.1, 0.2], seed=0)
    with pytest.raises(ValueError, match="zip"):
        agreement([1.0], [0.1, 0.2], seed=0)


def test_layers_are_drawn_with_their_encoder() -> None:
    """Three encoders of two layers: the interval is that of a plain loop over draws of whole encoders."""
    encoders = ["a", "a", "b", "b", "c", "c"]
    x, y = np.array([0.2, 0.1, 0.5, 0.6, 0.4, 0.9]), np.array([0.3, 0.2, 0.4, 0.7, 0.8, 0.9])
    found = agreement(x.tolist(), y.tolist(), encoders=encoders, seed=4)
    assert (found["n_encoders"], found["n_candidates"]) == (3, 6)
    taus, regrets = [], []
    for draw in np.random.default_rng(4).integers(0, 3, (1000, 3)):
        rows = [2 * index + layer for index in draw for layer in (0, 1)]
        taus.append(stats.weightedtau(x[rows], y[rows]).statistic)
        regrets.append(y[rows].max() - y[rows][x[rows].argmax()])
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(tuple(np.quantile(taus, [0.025, 0.975])), rel=1e-9)
    assert (found["regret_low"], found["regret_high"]) == pytest.approx(tuple(np.quantile(regrets, [0.025, 0.975])))
    assert found["random_regret"] == pytest.approx(0.9 - y.mean())


def test_layers_of_few_encoders_have_no_interval_and_equal_ones_are_told() -> None:
    two = agreement([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.4, 0.3], encoders=["a", "a", "b", "b"], seed=0)
    assert two["weighted_kendall"] is not None
    assert (two["ci_low"], two["regret_low"], two["warning"]) == (None, None, "2 encoders are too few for an interval")
    same = agreement([1, 1, 3, 3, 2, 2], [0.1, 0.2, 0.4, 0.3, 0.5, 0.6], encoders=["a", "a", "b", "b", "c", "c"], seed=0)
    assert same["warning"] == "gives all layers of an encoder the same score"
