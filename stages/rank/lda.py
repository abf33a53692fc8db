"""Leave-one-out accuracy of linear discriminant analysis: an honest baseline, at the price of one fit.

Gaussian classes of one covariance, shrunk towards a multiple of the identity (Ledoit and Wolf, Journal of Multivariate
Analysis 88, 2004, on the residuals r_i = x_i - m_{y_i}); with W = sum_i r_i r_i' and the samples without i,

    W_i = W - n_c / (n_c - 1) r_i r_i',    A_i = (1 - a) W_i / (n - 1) + a tr(W) / (n d) I,
    predicted: argmax_c ln p_c - (x_i - m_c)' A_i^-1 (x_i - m_c) / 2, class shares p_c and means m_c without i too

The shrinkage a and tr(W) are those of all samples; the rest follows exactly from one factorisation (Sherman-Morrison). A tie
counts as wrong. In [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg

from stages.rank import fisher
from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Float, Statistics

FLOOR = 1e-10  # smallest eigenvalue of A as a share of the largest variance: no direction is free of noise


def shrinkage(statistics: Statistics, centres: Float) -> tuple[float, float]:
    """Return Ledoit and Wolf's shrinkage of the within-class covariance, in [0, 1], and its trace; centres [C, w]."""
    n, d = statistics.n, statistics.d
    trace = fourth = 0.0
    for block, values in fisher.rows(statistics):
        residuals = values - centres[statistics.labels[block]]
        lengths = np.einsum("nw,nw->n", residuals, residuals)
        trace += float(lengths.sum()) / n
        fourth += float((lengths**2).sum()) / n
    variances, means = statistics.spectrum.values / n, fisher.means(statistics)
    weighted = np.sqrt(fisher.shares(statistics))[:, None] * means  # (C, k)
    square = float((variances**2).sum() - 2 * (weighted**2 @ variances).sum() + ((weighted @ weighted.T) ** 2).sum())
    distance = square / d - (trace / d) ** 2
    if d == 1 or distance <= np.finfo(np.float64).eps * float((variances**2).sum()):
        return (0.0, trace) if d == 1 else (1.0, trace)
    return float(np.clip((fourth - square) / (n * d) / distance, 0, 1)), trace


def _inverse(statistics: Statistics, a: float, ridge: float) -> tuple[Callable[[Float], Float], Callable[[Float], Float]]:
    """Return v [w, t] -> A^-1 v, and rows r [m, w] -> r' A^-1 r [m], for A = (1 - a) W / (n - 1) + ridge I."""
    spectrum, n = statistics.spectrum, statistics.n
    if spectrum.left is not None:
        variances = spectrum.values / (n - 1)
        weighted = np.sqrt(statistics.counts / (n - 1))[:, None] * fisher.means(statistics)  # (C, k)

        def solve(targets: Float) -> Float:
            return fisher.solve_on_axes(variances, weighted, a, ridge, targets)

        return solve, lambda rows: np.einsum("mw,wm->m", rows, solve(rows.T))
    factor = scipy.linalg.cholesky(  # A = factor factor'
        fisher.within(statistics, a, ridge, n - 1), lower=True, overwrite_a=True, check_finite=False
    )

    def lengths(rows: Float) -> Float:
        half = scipy.linalg.blas.dtrsm(1.0, factor, rows.T, lower=1)  # (w, m)
        return np.asarray(np.einsum("wm,wm->m", half, half))

    return lambda targets: np.asarray(scipy.linalg.cho_solve((factor, True), targets)), lengths


def hits(statistics: Statistics) -> tuple[int, float]:
    """Return how many samples are told right by the others, and the shrinkage; the features are not constant."""
    n, counts = statistics.n, statistics.counts.astype(np.float64)
    centres = fisher.centres(statistics)  # (C, w)
    a, trace = shrinkage(statistics, centres)
    ridge = max(a * trace / statistics.d, FLOOR * float(statistics.spectrum.values[0]) / n)
    solve, lengths = _inverse(statistics, a, ridge)
    seen = solve(centres.T)  # (w, C)
    gaps = centres @ seen  # (C, C)
    apart = np.diag(gaps)[:, None] + np.diag(gaps) - gaps - gaps.T
    right = 0
    for block, values in fisher.rows(statistics):
        own, each = statistics.labels[block], np.arange(len(values))
        residuals = values - centres[own]
        q = lengths(residuals)  # r' A^-1 r
        along = residuals @ seen  # (m, C) r' A^-1 m_c
        toward = along[each, own][:, None] - along  # r' A^-1 (m_y - m_c)
        left = np.maximum(counts[own] - 1, 1)
        kappa = counts[own] / left
        weight = kappa * (1 - a) / (n - 1)
        rest = np.maximum(1 - weight * q, np.finfo(np.float64).eps)
        distances = (q[:, None] + 2 * toward + apart[own]) + (weight / rest)[:, None] * (q[:, None] + toward) ** 2
        distances[each, own] = kappa**2 * q / rest
        scores = np.log(counts) - distances / 2  # the common ln(n - 1) decides nothing
        scores[each, own] += np.log(left) - np.log(counts[own])
        mine = scores[each, own]
        scores[each, own] = -np.inf
        right += int(((mine > scores.max(axis=1)) & (counts[own] > 1)).sum())
    return right, a


def _measure(statistics: Statistics) -> Finding:
    singles = int((statistics.counts == 1).sum())
    alone = f"{singles} classes of one sample are always missed" if singles else None
    if statistics.constant:
        return None, joined("the features are constant: no class is nearer than another", alone)
    right, a = hits(statistics)
    shrunk = "the covariance is all shrinkage: classes differ by the distance to their means alone" if a == 1 else None
    return right / statistics.n, joined(alone, shrunk)


lda = Metric(_measure)
