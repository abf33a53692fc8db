"""TMI against entropies that are known: a cube, a Gaussian, the clamp's floor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from stages.rank import METRICS
from stages.rank.chebyshev import kth_distances


@pytest.mark.parametrize("d", [1, 2, 3])
def test_entropy_of_a_uniform_cube(d: int) -> None:
    """Two classes, each uniform on a cube of side a: H(Z|Y) = d ln a, and the mean over two classes halves it."""
    side, rows = 1e7, np.random.default_rng(d).uniform(size=(8000, d))  # large, so that no distance is under the clamp
    score = METRICS["tmi"](side * rows, np.arange(8000) % 2)
    assert score.warning is None
    assert score.value == pytest.approx(d * np.log(side) / 2, abs=0.08)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_entropy_of_a_gaussian(d: int) -> None:
    scale, rows = 1e7, np.random.default_rng(d).normal(size=(8000, d))
    score = METRICS["tmi"](scale * rows, np.arange(8000) % 2)
    expected = d / 2 * np.log(2 * np.pi * np.e * scale**2) / 2
    assert score.value == pytest.approx(expected, abs=0.08)
    unclamped = METRICS["tmi_unclamped"](rows, np.arange(8000) % 2)
    assert unclamped.value == pytest.approx(d / 2 * np.log(2 * np.pi * np.e) / 2, abs=0.08)


def test_scaling_adds_d_ln_s_over_c() -> None:
    rows, labels = 50 * np.random.default_rng(0).normal(size=(120, 7)), np.arange(120) % 3
    first, scaled = METRICS["tmi"](rows, labels), METRICS["tmi"](2.5 * rows, labels)
    assert first.warning is None
    assert scaled.value == pytest.approx(first.value + 7 * np.log(2.5) / 3, rel=1e-12)


def test_floor_has_a_closed_form_and_a_warning() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 40))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # as embeddings often are
    counts = [10, 20, 30]
    score = METRICS["tmi"](rows, np.repeat([0, 1, 2], counts))
    assert score.value == pytest.approx(np.mean([n / 60 * (digamma(n) - digamma(3) + 40 * np.log(2)) for n in counts]))
    assert "all distances are under the clamp" in str(score.warning)


def test_small_classes_are_named() -> None:
    rows = 100 * np.random.default_rng(0).normal(size=(27, 2))
    labels = np.repeat([0, 1, 2, 3, 4], [12, 9, 3, 2, 1])
    score = METRICS["tmi"](rows, labels)
    assert score.warning == "2 classes are left out (too few distinct samples); 1 classes of one sample count 0"
    kept = [rows[:12], rows[12:21]]
    terms = [
        len(group) / 27 * (digamma(len(group)) - digamma(3) + 2 * np.log(2 * kth_distances(group, 3)).mean()) for group in kept
    ]
    assert score.value == pytest.approx(sum(terms) / 3)  # the class of one sample counts 0, those of 2 and 3 do not count
    nothing = METRICS["tmi"](rows[:6], np.repeat([0, 1], 3))
    assert nothing.value is None
    assert nothing.warning


def test_copies_have_no_entropy_without_the_clamp() -> None:
    rows = np.repeat(np.arange(4.0), 10)[:, None]
    labels = np.repeat([0, 1], 20)
    assert METRICS["tmi_unclamped"](rows, labels).value is None
    assert METRICS["tmi"](rows, labels).value is not None
    some = np.concatenate([rows[:20], np.random.default_rng(0).normal(size=(20, 1))])
    score = METRICS["tmi_unclamped"](some, labels)
    assert score.value is not None
    assert "20 samples have 3 exact copies" in str(score.warning)


@pytest.mark.parametrize("d", [1, 20, 300, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_are_those_of_a_tree(d: int, dtype: type[np.floating[Any]]) -> None:
    rows = (1e4 + np.random.default_rng(0).normal(size=(400, d)) * np.geomspace(1, 100, d)).astype(dtype)
    exact = rows.astype(np.float64)
    expected = cKDTree(exact).query(exact, k=4, p=np.inf)[0][:, 3]
    np.testing.assert_allclose(kth_distances(rows, 3), expected, rtol=1e-13 if dtype is np.float64 else 1e-7)


@settings(max_examples=100, deadline=None)
@given(
    rows=arrays(np.float32, st.tuples(st.integers(5, 12), st.integers(1, 6)), elements=st.sampled_from([-2.0, 0.0, 0.5, 3.0]))
)
def test_ties_and_copies_have_the_distance_of_the_sorted_list(rows: NDArray[np.float32]) -> None:
    distances = np.sort(np.abs(rows[:, None].astype(np.float64) - rows[None]).max(axis=2), axis=1)
    for k in (1, 3):
        np.testing.assert_array_equal(kth_distances(rows, k), distances[:, k])
