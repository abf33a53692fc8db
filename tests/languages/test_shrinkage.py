"""Estimates that lend each other strength, against closed forms and planted spreads."""

from __future__ import annotations

import numpy as np
import pytest

from stages.languages.shrink import ENDLESS, _inverse_trigamma, moderate, towards_mean


def test_equal_variances_give_the_estimator_of_efron_and_morris() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 2, 15)
    found = towards_mean(values, np.full(15, 1.0))
    scatter = np.sum((values - values.mean()) ** 2)
    weight = 12 / scatter  # (count - 3) variance / scatter
    assert found.weights == pytest.approx(np.full(15, weight))
    assert found.values == pytest.approx(values - weight * (values - values.mean()))


def test_values_that_differ_by_chance_alone_go_to_their_weighted_mean() -> None:
    variances = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    values = np.array([0.1, 0.0, -0.1, 0.05, 0.0])
    found = towards_mean(values, variances)
    mean = np.sum(values / variances) / np.sum(1 / variances)
    assert found.weights == pytest.approx(np.full(5, 2 / 4))
    assert found.values == pytest.approx(values - 0.5 * (values - mean))


def test_intervals_cover_targets_at_their_level() -> None:
    rng = np.random.default_rng(1)
    inside, better = [], []
    for _ in range(300):
        truth, variances = rng.normal(0.1, 0.05, 15), rng.uniform(0.001, 0.01, 15)
        values = truth + rng.normal(0, np.sqrt(variances))
        found = towards_mean(values, variances)
        inside.append(np.abs(found.values - truth) <= 1.96 * found.errors)
        better.append(np.sum((found.values - truth) ** 2) < np.sum((values - truth) ** 2))
    assert 0.93 <= np.mean(inside) <= 0.98
    assert np.mean(better) > 0.9


def test_few_values_and_values_without_a_variance_stay() -> None:
    for values, variances in [(np.array([1.0, 2.0, 3.0]), np.ones(3)), (np.arange(5.0), np.zeros(5))]:
        found = towards_mean(values, variances)
        assert found.values.tolist() == values.tolist()
        assert not found.weights.any()


@pytest.mark.parametrize("x", [0.05, 0.3, 1.0, 7.0, 400.0])
def test_inverse_trigamma(x: float) -> None:
    from scipy.special import polygamma

    assert _inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


def test_variances_are_drawn_as_far_as_their_prior_is_worth() -> None:
    rng = np.random.default_rng(2)
    prior, common = 8.0, 0.25
    truth = prior * common / rng.chisquare(prior, 4000)
    variances = truth * rng.chisquare(5, 4000) / 5
    found, freedom = moderate(variances, np.full(4000, 5.0))
    assert freedom == pytest.approx(np.full(4000, prior + 5), rel=0.1)
    assert found == pytest.approx((prior * common + 5 * variances) / (prior + 5), rel=0.1)


def test_equal_variances_are_pooled_and_one_of_no_freedom_follows() -> None:
    rng = np.random.default_rng(3)
    freedom = np.array([6.0] * 50 + [0.0])
    variances = np.append(rng.chisquare(6, 50) / 6, 0.0)
    found, total = moderate(variances, freedom)
    if total[0] == ENDLESS:
        assert np.ptp(found) < 1e-3
    assert found[-1] == pytest.approx(1.0, rel=0.4)
    assert moderate(variances[:3], freedom[:3])[0].tolist() == variances[:3].tolist()
