"""An inverse of the Hessian of multinomial logistic regression that is cheap, and right where it matters.

With row i's probabilities p_i, one-hot label y_i, W_i = diag(p_i) - p_i p_i' and residual r_i = p_i - y_i, the Hessian of the
mean loss is 1/n sum_i W_i (x) z_i z_i' plus the penalty's rho. Where the probabilities are right, r_i r_i' has the
expectation W_i (Fisher's identity); half of each, V_i = (W_i + r_i r_i') / 2, is also large for a row that the model is sure of
and wrong about, which would otherwise make the steps endless. Its trace is 1 - p_i[y_i], the doubt h_i. Then

    mean_i(V_i)  (x)  sum_i h_i z_i z_i' / sum_i h_i    + rho

is exact, but for that, where all V_i are multiples of one matrix. In the eigenvectors of the left factor it falls apart into
one d x d system a class; eigenvalues within a factor of four share one. Where there are many rows for each dimension, both
factors are of rows drawn at equal steps of the summed doubts; where there are fewer rows than dimensions, the systems are
solved in the space of the rows (Woodbury), rows x rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from stages.probe.rows import Rows, Scaling

Floats = NDArray[np.float64]
_ROWS_PER_DIMENSION = 4
_LEAST_ROWS = 512
_ALIKE = 4.0  # largest ratio of class eigenvalues that share a factorisation
_RANK = 1e-12  # of an eigenvalue to the largest: below it, there is no curvature but the penalty's


class Curvature:
    """The approximate Hessian at one point, factorised.

    Args:
        rows: all of them.
        weights, intercepts: [k, d] and [k], of the logits on the rows.
        doubts: [n] 1 - p of each row's own class, there.
        scaling: of the rows.
        rho: the penalty's curvature.
    """

    def __init__(
        self, rows: Rows, weights: Floats, intercepts: Floats, doubts: NDArray[Any], scaling: Scaling, rho: float
    ) -> None:
        self.mean_doubt = float(doubts.mean(dtype=np.float64))
        limit = max(_LEAST_ROWS, _ROWS_PER_DIMENSION * rows.n_features)
        summed = np.cumsum(doubts, dtype=np.float64)
        if len(doubts) <= limit or not summed[-1] > 0:
            chosen = np.arange(len(doubts))
            shares = doubts / summed[-1] if summed[-1] > 0 else np.full(len(doubts), 1 / len(doubts))
        else:
            chosen = np.searchsorted(summed, (np.arange(limit) + 0.5) * (summed[-1] / limit)).astype(np.int64)
            shares = np.full(limit, 1 / limit)
        z = rows.picked(chosen)
        values, self._vectors = np.linalg.eigh(self._classes(z, rows.codes[chosen], weights, intercepts, shares))  # ascending
        values = np.where(values > _RANK * max(values[-1], 1e-300), values, 0.0)
        self._by_intercept = np.divide(1, values, out=np.zeros_like(values), where=values > 0)

        z = z - scaling.mean.astype(z.dtype)
        z *= scaling.factor.astype(z.dtype)
        self._centre = (shares.astype(z.dtype) @ z).astype(np.float64)  # (d,)
        z -= self._centre.astype(z.dtype)
        z *= np.sqrt(shares).astype(z.dtype)[:, None]
        self._groups = _factorise(z, values, rho)

    def _classes(
        self, x: NDArray[Any], codes: NDArray[np.int64], weights: Floats, intercepts: Floats, shares: NDArray[Any]
    ) -> Floats:
        """Return the left factor [k, k] from rows [s, d] that stand for shares [s] of the summed doubts."""
        logits = weights.astype(x.dtype) @ x.T + intercepts.astype(x.dtype)[:, None]
        logits -= logits.max(axis=0)
        others = np.exp(logits)
        others[codes, np.arange(len(codes))] = 0
        others /= np.maximum(others.sum(axis=0), np.finfo(x.dtype).tiny)  # (k, s) p of the other classes, over the doubt
        members = sparse.csr_array((shares, (codes, np.arange(len(codes)))), shape=(len(weights), len(codes)))
        apart = self.mean_doubt * (members @ others.T.astype(np.float64))  # (k, k) mean p of l where k is true
        apart = (apart + apart.T) / 2
        return np.asarray(np.diag(apart.sum(axis=1)) - apart)

    def stale(self, doubts: NDArray[Any], ratio: float) -> bool:
        """Say whether the mean doubt of the rows has changed by more than a factor since."""
        return not self.mean_doubt / ratio <= float(doubts.mean(dtype=np.float64)) <= self.mean_doubt * ratio

    def solve(self, gradient: Floats) -> Floats:
        """Return the inverse times a gradient [k, d + 1], its last column being that of the intercepts."""
        turned = self._vectors.T @ gradient
        turned[:, :-1] -= np.outer(turned[:, -1], self._centre)
        found = np.empty_like(turned)
        for rows, solve in self._groups:
            found[rows, :-1] = solve(turned[rows, :-1])
        found[:, -1] = self._by_intercept * turned[:, -1] - found[:, :-1] @ self._centre
        return self._vectors @ found


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
