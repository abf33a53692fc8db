"""Eigenvalues, projections and leading eigenvectors by the tridiagonal route against LAPACK's full decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.rank.eigen import Tridiagonal


def compare(matrix: NDArray, vectors: NDArray) -> None:
    """Hold each answer against numpy's; only sums over an eigenspace are unique where eigenvalues are equal."""
    values, basis = np.linalg.eigh(matrix)
    values, basis = values[::-1], basis[:, ::-1]
    size, d = max(float(np.abs(values).max()), np.finfo(float).tiny), len(matrix)
    decomposed = Tridiagonal(np.asfortranarray(np.tril(matrix)))
    found, turned = decomposed.spectral(vectors)
    np.testing.assert_allclose(found / size, values / size, atol=1e-14 * d)
    turned, expected = turned / np.linalg.norm(vectors, axis=0), basis.T @ vectors / np.linalg.norm(vectors, axis=0)
    np.testing.assert_allclose((turned**2).sum(axis=0), 1, rtol=1e-12)
    for shift in (1e-6, 1e-2, 1.0):  # v' (S / size + shift)^-1 w, the signs of the eigenvectors apart
        weights = 1 / np.maximum(values / size + shift, shift)
        np.testing.assert_allclose(
            turned.T @ (weights[:, None] * turned), expected.T @ (weights[:, None] * expected), rtol=1e-7, atol=1e-7 / shift
        )
    for count in {1, (d + 1) // 2, d}:
        axes = decomposed.leading(count)
        np.testing.assert_allclose(axes.T @ axes, np.eye(count), atol=1e-11)
        np.testing.assert_allclose(matrix @ axes / size, axes * (values[:count] / size), atol=1e-13 * d)


def covariance(d: int, rank: int, scale: float, seed: int) -> NDArray:
    rows = np.random.default_rng(seed).normal(size=(rank, d)) * np.exp(np.random.default_rng(seed + 1).normal(size=d))
    return np.asarray(rows.T @ rows * scale)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.sampled_from([1e-140, 1e-20, 1.0, 1e140]), st.integers(0, 10_000))
def test_any_rank_and_scale(d: int, rank: int, scale: float, seed: int) -> None:
    compare(covariance(d, rank, scale, seed), np.random.default_rng(seed).normal(size=(d, 3)))


@pytest.mark.parametrize("matrix", [
    np.eye(6),
    np.zeros((5, 5)),
    np.diag([3.0, 0, 3, 1e-18, 1]),
    np.diag(np.geomspace(1, 1e-30, 12)),
    np.ones((7, 7)),
    np.kron(np.eye(4), covariance(5, 3, 1.0, 0)),
], ids=["identity", "zero", "diagonal", "graded", "rank one", "repeated"])  # fmt: skip
def test_what_is_degenerate(matrix: NDArray) -> None:
    compare(matrix, np.random.default_rng(0).normal(size=(len(matrix), 2)))


def test_hundreds_of_dimensions() -> None:
    compare(covariance(300, 500, 1.0, 3), np.random.default_rng(0).normal(size=(300, 5)))
