"""Eigenvalues of a symmetric matrix, other vectors in the basis of its eigenvectors, and the first few of those themselves.

Most metrics need no eigenvector, only a few vectors in their basis. LAPACK makes the matrix tridiagonal, S = Q T Q', a third
of the work of all eigenvectors; the rotations that then make T diagonal are applied to Q' times those few vectors as they come
(the implicit QR algorithm, Golub and Van Loan, Matrix Computations, 8.3), which LAPACK's own interface does for d vectors
alone. numba compiles that on first use, in a second, and keeps it beside this file; importing it takes half a second, so
import this module where it is called.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack

Float = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
VANISHED = 1e-150  # in units of the matrix: squares of less leave floating point
SWEEPS = 30  # an eigenvalue, far above the two that are usual


@numba.njit(cache=True, nogil=True)
def _diagonalise(diagonal: Any, beside: Any, vectors: Any) -> Any:
    """Turn the tridiagonal matrix diagonal in place, and `vectors` [d, m] with it; return whether it was reached.

    `diagonal` [d] and `beside` [d - 1] are at most about 1.
    """
    end, left = len(diagonal) - 1, SWEEPS * len(diagonal)
    while end > 0:
        if abs(beside[end - 1]) <= EPSILON * (abs(diagonal[end - 1]) + abs(diagonal[end])) + VANISHED:
            end -= 1
            continue
        start = end - 1
        while start > 0 and abs(beside[start - 1]) > EPSILON * (abs(diagonal[start - 1]) + abs(diagonal[start])) + VANISHED:
            start -= 1
        if left == 0:
            return False
        left -= 1
        half, last = (diagonal[end - 1] - diagonal[end]) / 2, beside[end - 1]
        length = np.sqrt(half * half + last * last)
        shift = diagonal[end] - last * (last / (half + length if half >= 0 else half - length))  # Wilkinson's
        x, bulge = diagonal[start] - shift, beside[start]
        for k in range(start, end):
            length = np.sqrt(x * x + bulge * bulge)
            c, s = (x / length, bulge / length) if length > VANISHED else (1.0, 0.0)
            if k > start:
                beside[k - 1] = length
            a, b, g = diagonal[k], beside[k], diagonal[k + 1]
            apart = 2 * c * b + s * (g - a)
            diagonal[k], diagonal[k + 1] = a + s * apart, g - s * apart
            beside[k] = c * apart - b
            if k < end - 1:
                x, bulge = beside[k], s * beside[k + 1]
                beside[k + 1] *= c
            upper, lower = vectors[k], vectors[k + 1]
            for j in range(vectors.shape[1]):
                one, other = upper[j], lower[j]
                upper[j] = c * one + s * other
                lower[j] = c * other - s * one
    return True


class Tridiagonal:
    """A symmetric matrix S = Q T Q' with T tridiagonal."""

    def __init__(self, lower: Float) -> None:
        """Reduce the matrix [d, d] given by its lower triangle, which is overwritten."""
        d = len(lower)
        self._scale = max(float(np.abs(np.diagonal(lower)).max()), float(np.finfo(np.float64).tiny))
        size = int(lapack.dsytrd_lwork(d, lower=1)[0])
        reduced, diagonal, beside, self._tau, _ = lapack.dsytrd(lower, lower=1, lwork=size, overwrite_a=1)
        self._diagonal, self._beside = diagonal, beside
        self._reflectors = np.asfortranarray(reduced[1:, :-1])

    def spectral(self, vectors: Float) -> tuple[Float, Float]:
        """Return the eigenvalues [d], descending, and V' vectors [d, m], V the eigenvectors in that order; vectors [d, m]."""
        diagonal, beside = self._diagonal / self._scale, self._beside / self._scale
        turned = np.ascontiguousarray(self._turn("T", vectors))
        if not _diagonalise(diagonal, beside, turned):
            raise np.linalg.LinAlgError(f"{SWEEPS} sweeps an eigenvalue were not enough")
        order = np.argsort(-diagonal, kind="stable")
        return diagonal[order] * self._scale, turned[order]

    def leading(self, count: int) -> Float:
        """Return the eigenvectors [d, count] of the `count` largest eigenvalues, the largest first."""
        d = len(self._diagonal)
        if d == 1:
            return np.ones((1, count))
        _, vectors = scipy.linalg.eigh_tridiagonal(
            self._diagonal / self._scale, self._beside / self._scale, select="i", select_range=(d - count, d - 1),
            lapack_driver="stemr", check_finite=False,
        )  # fmt: skip
        return self._turn("N", vectors[:, ::-1])

    def _turn(self, how: str, vectors: Float) -> Float:
        """Return Q vectors, or Q' vectors for "T"."""
        turned = np.array(vectors, dtype=np.float64, order="F")
        if len(self._tau) and turned.shape[1]:
            inner = np.asfortranarray(turned[1:])
            size = int(lapack.dormqr("L", how, self._reflectors, self._tau, inner, -1)[1][0])
            turned[1:] = lapack.dormqr("L", how, self._reflectors, self._tau, inner, size, overwrite_c=1)[0]
        return turned


class Dense:
    """A symmetric matrix of which all eigenvectors are at hand."""

    def __init__(self, values: Float, vectors: Float) -> None:
        """Take the eigenvalues [d], ascending, and the eigenvectors [d, d]."""
        self._values, self._vectors = values[::-1], vectors[:, ::-1]

    def spectral(self, vectors: Float) -> tuple[Float, Float]:
        """Return what `Tridiagonal.spectral` does."""
        return self._values, self._vectors.T @ vectors

    def leading(self, count: int) -> Float:
        """Return what `Tridiagonal.leading` does."""
        return self._vectors[:, :count]


Eigen = Tridiagonal | Dense
