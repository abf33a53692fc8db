"""The vectorised weighted Kendall correlation against SciPy's, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.rank.weighted_tau import weighted_taus


@given(seed=st.integers(0, 10**6), n=st.integers(2, 14), digits=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_each_row_is_scipys(seed: int, n: int, digits: int) -> None:
    """Few digits make ties, in one of the two and in both."""
    stream = np.random.default_rng(seed)
    x, y = stream.normal(size=(8, n)).round(digits), stream.normal(size=(8, n)).round(digits)
    for row, found in enumerate(weighted_taus(x, y)):
        if np.ptp(x[row]) == 0 or np.ptp(y[row]) == 0:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(stats.weightedtau(x[row], y[row]).statistic, abs=1e-12)


def test_absent_members_are_as_if_left_out() -> None:
    stream = np.random.default_rng(0)
    x, y = stream.normal(size=(30, 9)), stream.normal(size=(30, 9)).round(0)
    holes = stream.random((2, 30, 9)) < 0.2
    x_holes, y_holes = np.where(holes[0], np.nan, x), np.where(holes[1], np.nan, y)
    kept = ~(holes[0] | holes[1])
    expected = [stats.weightedtau(x[row][kept[row]], y[row][kept[row]]).statistic for row in range(30)]
    assert weighted_taus(x_holes, y_holes) == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)


def test_many_rows_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(1)
    x, y = stream.normal(size=(50, 7)), stream.normal(size=(50, 7))
    whole = weighted_taus(x, y)
    monkeypatch.setattr("stages.rank.weighted_tau.PAIRS", 3 * 49)
    assert np.array_equal(weighted_taus(x, y), whole)


def test_nothing_to_order() -> None:
    assert weighted_taus(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    assert np.isnan(weighted_taus(np.ones((1, 1)), np.ones((1, 1)))).all()
    rounding = np.array([[0.1 + 0.2, 0.3, 0.3]])
    assert np.isnan(weighted_taus(rounding, np.array([[1.0, 2.0, 3.0]]))).all()
