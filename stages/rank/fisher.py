"""The regularised Fisher discriminant that SFDA, ETran and NCTI share: posteriors of Gaussian classes of one covariance.

With the within-class covariance W = sum_c p_c cov_c, n_c in the denominators, and its largest eigenvalue s,

    lam = max(exp(-5 s), 1e-10),    A = (1 - lam) W + lam tr(W) / d I,
    p(c | x) = softmax_c(x' A^-1 m_c - m_c' A^-1 m_c / 2 + ln p_c)

Directions in which the features do not vary tell nothing, so all of it happens in the span of the centred features; where it
is cheaper, coordinates are those of the features themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from stages.rank.statistics import Float, Statistics

STRENGTH = 5.0  # of the authors' program; the paper leaves it open
LEAST = 1e-10
ROUNDING = 1e-12  # share of the largest variance under which a variance is rounding
DENSE = 64  # order up to which the largest eigenvalue is taken from a dense matrix


@dataclass(frozen=True)
class Fit:
    """What the first fit leaves behind; p_i = p(y_i | x_i), all of it on the samples it was fitted on."""

    shrinkage: float  # lam
    true: Float  # [n] p_i
    softened: Float  # [n] exp(p_i) / sum_c exp(p(c | x_i))


def softmax(logits: Float) -> Float:
    """Return the softmax over the last axis, in a new array."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def shares(statistics: Statistics) -> Float:
    """Return the share of each class [C]."""
    return statistics.counts / statistics.n


def rows(statistics: Statistics) -> Iterator[tuple[slice, Float]]:
    """Yield (row slice, centred rows [., w]): on the principal axes where n <= d, else as they are."""
    if statistics.spectrum.left is not None:
        yield slice(0, statistics.n), statistics.principal(len(statistics.spectrum.values))
    else:
        yield from statistics.blocks()


def width(statistics: Statistics) -> int:
    """Return the number of coordinates w that `rows` has."""
    return len(statistics.spectrum.values) if statistics.spectrum.left is not None else statistics.d


def centres(statistics: Statistics) -> Float:
    """Return the class means [C, w] in the coordinates of `rows`, the overall mean being 0."""
    return means(statistics) if statistics.spectrum.left is not None else statistics.class_means


def means(statistics: Statistics) -> Float:
    """Return the class means [C, k] on the principal axes, the overall mean being 0."""
    return np.asarray((statistics.spectrum.class_sums / statistics.counts).T)


def largest_within(variances: Float, weighted: Float) -> float:
    """Return the largest eigenvalue of diag(variances [k]) - weighted' weighted, for weighted [C, k]."""
    if len(variances) <= DENSE:
        return float(np.linalg.eigvalsh(np.diag(variances) - weighted.T @ weighted)[-1])
    from scipy.sparse.linalg import LinearOperator, eigsh

    within = LinearOperator(
        (len(variances),) * 2, matvec=lambda v: variances * v.ravel() - weighted.T @ (weighted @ v.ravel()), dtype=np.float64
    )
    return float(eigsh(within, k=1, which="LA", v0=np.ones(len(variances)), return_eigenvectors=False)[0])


def solve_on_axes(variances: Float, weighted: Float, shrinkage: float, ridge: float, targets: Float) -> Float:
    """Return ((1 - shrinkage) (diag(variances) - weighted' weighted) + ridge I)^-1 targets [k, t]; Woodbury's identity."""
    inverse = 1 / ((1 - shrinkage) * variances + ridge)
    scaled = np.sqrt(1 - shrinkage) * weighted  # (C, k)
    inner = np.eye(len(scaled)) - (scaled * inverse) @ scaled.T
    # Where classes hardly vary, `inner` is the small difference of near equals: rounding must not turn its sign.
    values, vectors = np.linalg.eigh(inner)
    values = np.maximum(values, np.finfo(np.float64).eps)
    first = inverse[:, None] * targets
    correction = vectors @ ((vectors.T @ (scaled @ first)) / values[:, None])
    return np.asarray(first + inverse[:, None] * (scaled.T @ correction))


def within(statistics: Statistics, shrinkage: float, ridge: float, n: int) -> Float:
    """Return (1 - shrinkage) W / n + ridge I [d, d] for the scatter W inside the classes, by its lower triangle; n > d."""
    weighted = np.sqrt(statistics.counts)[:, None] * statistics.class_means  # (C, d)
    found = scipy.linalg.blas.dsyrk(-1.0, weighted.T, beta=1.0, c=statistics.scatter, lower=True)
    found *= (1 - shrinkage) / n
    found[np.diag_indices(statistics.d)] += ridge
    return np.asarray(found)


def ridge(statistics: Statistics, shrinkage: float, inside: float) -> float:
    """Return lam tr(W) / d, or what rounding leaves of it where there is next to no variance inside the classes."""
    return max(shrinkage * inside / statistics.d, ROUNDING * float(statistics.spectrum.values[0]) / statistics.n)


def first_fit(statistics: Statistics) -> Fit:
    """Fit and apply the discriminant to the features as they are; they are not constant."""
    spectrum, prior = statistics.spectrum, shares(statistics)
    variances = spectrum.values / statistics.n
    weighted = np.sqrt(prior)[:, None] * means(statistics)  # (C, k)
    inside = max(float(variances.sum() - (weighted**2).sum()), 0.0)
    shrinkage = max(float(np.exp(-STRENGTH * max(largest_within(variances, weighted), 0.0))), LEAST)
    added, middles = ridge(statistics, shrinkage, inside), centres(statistics)  # (C, w)
    if spectrum.left is not None:
        coefficients = solve_on_axes(variances, weighted, shrinkage, added, middles.T)  # (w, C)
    else:
        coefficients = solve_symmetric(within(statistics, shrinkage, added, statistics.n), middles.T)
    offsets = np.log(prior) - np.einsum("cw,wc->c", middles, coefficients) / 2
    true, softened = np.empty(statistics.n), np.empty(statistics.n)
    for block, values in rows(statistics):
        posterior = softmax(values @ coefficients + offsets)
        own = posterior[np.arange(len(posterior)), statistics.labels[block]]
        true[block] = own
        softened[block] = np.exp(own) / np.exp(posterior).sum(axis=1)
    return Fit(shrinkage, true, softened)


def saturation(statistics: Statistics) -> str | None:
    """Return a warning where classes can be told apart whatever the features are."""
    free = statistics.n - statistics.n_classes
    if free < statistics.d:
        return f"too few samples ({statistics.n} for {statistics.d} dimensions): the discriminant fits them, and saturates at 1"
    return None


def solve_symmetric(lower: Float, targets: Float) -> Float:
    """Return X of S X = targets [w, t] for a symmetric S given by its lower triangle, near singular ones included."""
    _, found, failed = scipy.linalg.lapack.dposv(lower, targets, lower=1)
    if failed:  # rounding has left an eigenvalue under 0
        found = scipy.linalg.lapack.dsysv(lower, targets, lower=1)[2]
    return np.asarray(found)
