"""The error to expect between the sizes measured, against its definition written out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from stages.probe.expected import expected_error

SIZES = (20, 200, 2000)


def curves(errors: list[list[float]], head: str = "naive_bayes") -> pl.DataFrame:
    rows = [
        (head, m, seed, error) for seed, line in enumerate(errors) for m, error in zip(SIZES, line, strict=True)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=["head", "m", "seed", "error"], orient="row")


def test_a_line_in_log_m_is_met_everywhere() -> None:
    table = curves([[0.5, 0.3, 0.1], [0.6, 0.4, 0.1]])
    for m in (20, 63.2, 200, 300, 1999):
        line = (0.5 - 0.2 * np.log10(m / 20), 0.6 - 0.2 * np.log10(m / 20) if m <= 200 else 0.4 - 0.3 * np.log10(m / 200))
        found = expected_error(table, "naive_bayes", m)
        assert found is not None
        assert found.error == pytest.approx(np.mean(line))
    assert expected_error(table, "naive_bayes", 2000) == (pytest.approx(0.1), None, None)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = expected_error(curves((0.3 + 0.02 * random.normal(size=(5, 3))).tolist()), "naive_bayes", 200)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.035)


def test_nothing_is_extrapolated_and_one_draw_has_no_interval() -> None:
    table = curves([[0.5, 0.3, 0.1], [0.6, 0.4, 0.1]])
    assert expected_error(table, "naive_bayes", 19) is None
    assert expected_error(table, "naive_bayes", 2001) is None
    assert expected_error(table, "logistic", 200) is None
    assert expected_error(table.filter(seed=0), "naive_bayes", 200) == (pytest.approx(0.3), None, None)


def test_an_interval_stays_between_0_and_1() -> None:
    found = expected_error(curves([[0.0, 0.0, 0.0], [0.9, 0.9, 0.1]]), "naive_bayes", 20)
    assert found == (pytest.approx(0.45), 0.0, 1.0)


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = curves([[0.5, 0.3, 0.1], [0.6, 0.4, 0.1]])
    assert expected_error(table.sample(fraction=1, shuffle=True, seed=1), "naive_bayes", 90) == expected_error(
        table, "naive_bayes", 90
    )
