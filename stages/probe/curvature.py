"""An inverse of the Hessian of multinomial logistic regression that is cheap, and right where it matters.

With row i's probabilities p_i and W_i = diag(p_i) - p_i p_i', the Hessian of the mean loss is 1/n sum_i W_i (x) z_i z_i' plus
the penalty's rho. It is approximated by

    mean_i(W_i)  (x)  sum_i h_i z_i z_i' / sum_i h_i    + rho,      h_i = trace W_i,

exact where all W_i are multiples of one matrix. In the eigenvectors of the left factor it falls apart into one d x d system
a class; eigenvalues within a factor of two share one. Where there are more rows than a few for each dimension, the right
factor is the covariance of rows drawn at equal steps of the summed h; where there are fewer rows than dimensions, the
systems are solved in the space of the rows (Woodbury), rows x rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]
_ROWS_PER_DIMENSION = 6
_LEAST_ROWS = 512
_ALIKE = 2.0  # largest ratio of class eigenvalues that share a factorisation
_RANK = 1e-12  # of an eigenvalue to the largest: below it, there is no curvature but the penalty's


class Curvature:
    """The approximate Hessian at one point, factorised.

    Args:
        picked: returns rows [s, d] by their ascending numbers.
        probabilities: [k, n] of every row.
        mean, factor: [d] each; z = (x - mean) * factor.
        rho: the penalty's curvature.
    """

    def __init__(
        self,
        picked: Callable[[NDArray[np.int64]], NDArray[Any]],
        probabilities: NDArray[Any],
        mean: Floats,
        factor: Floats,
        rho: float,
    ) -> None:
        n = probabilities.shape[1]
        h = _uncertainty(probabilities)
        self.mean_uncertainty = float(h.mean(dtype=np.float64))
        limit = max(_LEAST_ROWS, _ROWS_PER_DIMENSION * len(mean))
        summed = np.cumsum(h, dtype=np.float64)
        if n <= limit or not summed[-1] > 0:
            chosen, weights = np.arange(n), h / summed[-1] if summed[-1] > 0 else np.full(n, 1 / n)
        else:
            chosen = np.searchsorted(summed, (np.arange(limit) + 0.5) * (summed[-1] / limit)).astype(np.int64)
            weights = np.full(limit, 1 / limit)
        rows = picked(chosen)
        z = rows - mean.astype(rows.dtype)
        z *= factor.astype(rows.dtype)
        self._centre = (weights.astype(z.dtype) @ z).astype(np.float64)  # (d,)
        z -= self._centre.astype(z.dtype)
        z *= np.sqrt(weights).astype(z.dtype)[:, None]

        classes = np.diag(probabilities.mean(axis=1, dtype=np.float64)) - (probabilities @ probabilities.T) / n
        values, self._vectors = np.linalg.eigh(classes)  # ascending
        values = np.where(values > _RANK * max(values[-1], 1e-300), values, 0.0)
        self._by_intercept = np.divide(1, values, out=np.zeros_like(values), where=values > 0)
        self._groups = _factorise(z, values, rho)

    def stale(self, probabilities: NDArray[Any], ratio: float) -> bool:
        """Say whether the mean uncertainty of the rows has changed by more than a factor since."""
        now = float(_uncertainty(probabilities).mean(dtype=np.float64))
        return not self.mean_uncertainty / ratio <= now <= self.mean_uncertainty * ratio

    def solve(self, gradient: Floats) -> Floats:
        """Return the inverse times a gradient [k, d + 1], its last column being that of the intercepts."""
        turned = self._vectors.T @ gradient
        turned[:, :-1] -= np.outer(turned[:, -1], self._centre)
        found = np.empty_like(turned)
        for rows, solve in self._groups:
            found[rows, :-1] = solve(turned[rows, :-1])
        found[:, -1] = self._by_intercept * turned[:, -1] - found[:, :-1] @ self._centre
        return self._vectors @ found


def _uncertainty(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return h [n], the trace of each row's W."""
    h: NDArray[Any] = 1 - np.einsum("kn,kn->n", probabilities, probabilities)
    return np.maximum(h, 0)


def _factorise(z: NDArray[Any], values: Floats, rho: float) -> list[tuple[slice, Callable[[Floats], Floats]]]:
    """Return, for runs of the ascending class eigenvalues, the solver of (value z'z + rho) x = g for rows g [r, d]."""
    runs: list[tuple[slice, float]] = []
    start = 0
    for stop in range(1, len(values) + 1):
        if stop == len(values) or values[stop] > _ALIKE * values[start]:
            inside = values[start:stop]
            runs.append((slice(start, stop), float(np.exp(np.log(inside).mean())) if inside[0] > 0 else 0.0))
            start = stop
    in_rows = len(z) < z.shape[1]
    gram = (z @ z.T if in_rows else z.T @ z).astype(np.float64)
    diagonal = np.diag_indices(len(gram))
    slack = np.finfo(z.dtype).eps * float(gram[diagonal].max(initial=0))  # what rounding may have taken from definiteness
    wide = z.astype(np.float64, copy=False)

    def solver(value: float) -> Callable[[Floats], Floats]:
        if not value > 0:
            return lambda g: g / rho
        system = gram if in_rows else gram * value
        system = system.copy() if in_rows else system
        system[diagonal] += slack + rho / value if in_rows else slack * value + rho
        factor = linalg.cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        if in_rows:
            return lambda g: (g - (wide.T @ linalg.cho_solve(factor, wide @ g.T, check_finite=False)).T) / rho
        return lambda g: linalg.cho_solve(factor, g.T, check_finite=False).T

    return [(rows, solver(value)) for rows, value in runs]
