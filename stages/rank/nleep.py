"""NLEEP: LEEP with the clusters of a Gaussian mixture in place of the source classes, so that no source head is needed.

Li et al., CVPR 2021, arXiv 2011.11200: the first principal components that hold 80% of the variance, a mixture of 5 C
Gaussians (at most n) of full covariances fitted to them, and LEEP of its posteriors p(z | x_i):

    score = mean_i ln sum_z p(y_i | z) p(z | x_i)  <= 0

Several published programs leave the logarithm out. The mixture starts from k-means, which starts from the sample farthest
from the mean and then, one by one, from the sample farthest from those taken: no draw, and no dependence on the order of the
rows. Slow: a step of expectation maximisation is 5 C n q^2 for q components. Beyond 10,000 samples as many are taken evenly.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from stages.rank.metric import Finding, Metric, joined
from stages.rank.sampling import evenly, on_axes, said
from stages.rank.statistics import Float, Statistics

KEPT = 0.8  # share of the variance
CLUSTERS = 5  # a class
NARROWEST = 1e-6  # added to each variance, as a share of the first component's
SETTLED = 1e-3  # change of the mean log likelihood
STEPS = 100
MOST = 10_000


def farthest_first(rows: Float, clusters: int) -> Float:
    """Return `clusters` rows [clusters, q], each the farthest from those before it, the first from the mean of all."""
    nearest = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
    taken: list[int] = []
    for _ in range(clusters):
        last = int(nearest.argmax())
        apart = ((rows - rows[last]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, apart) if taken else apart
        taken.append(last)
    return np.asarray(rows[taken])


def k_means(rows: Float, centres: Float) -> NDArray[np.int64]:
    """Return the cluster of each row [n] by Lloyd's algorithm; a cluster left empty keeps its centre."""
    labels = np.full(len(rows), -1, dtype=np.int64)
    for _ in range(STEPS):
        last, labels = labels, ((centres**2).sum(axis=1) - 2 * (rows @ centres.T)).argmin(axis=1)
        if (labels == last).all():
            break
        counts = np.bincount(labels, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return labels


def _log_densities(rows: Float, responsibilities: Float) -> Float:
    """Return ln of weight times density [n, K] of the Gaussians that the responsibilities [n, K] give."""
    n, q = rows.shape
    found = np.full(responsibilities.shape, -np.inf)
    for z, mass in enumerate(responsibilities.sum(axis=0).tolist()):
        members = np.flatnonzero(responsibilities[:, z] > np.finfo(np.float64).eps)
        if not len(members):
            continue
        shares = responsibilities[members, z] / mass
        mean = shares @ rows[members]
        apart = (rows[members] - mean) * np.sqrt(shares)[:, None]
        covariance = apart.T @ apart
        covariance[np.diag_indices(q)] += NARROWEST
        factor = scipy.linalg.cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        half = scipy.linalg.blas.dtrsm(1.0, factor, (rows - mean).T, lower=True)  # (q, n)
        determinant = 2 * float(np.log(np.diagonal(factor)).sum())
        found[:, z] = np.log(mass / n) - (np.einsum("qn,qn->n", half, half) + determinant + q * np.log(2 * np.pi)) / 2
    return found


def posteriors(rows: Float, clusters: int) -> tuple[Float, bool]:
    """Return the posteriors [n, clusters] of a mixture fitted to rows [n, q], and whether the fit has settled."""
    responsibilities = np.zeros((len(rows), clusters))
    responsibilities[np.arange(len(rows)), k_means(rows, farthest_first(rows, clusters))] = 1
    likelihood, settled = -np.inf, False
    densities = _log_densities(rows, responsibilities)
    for step in range(STEPS + 1):
        top = densities.max(axis=1)
        weights = np.exp(densities - top[:, None])
        sums = weights.sum(axis=1)
        responsibilities = weights / sums[:, None]
        last, likelihood = likelihood, float((top + np.log(sums)).mean())
        if settled or step == STEPS:
            break  # the posteriors are those of the last Gaussians
        settled = abs(likelihood - last) < SETTLED
        densities = _log_densities(rows, responsibilities)
    return responsibilities, settled


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        shares = statistics.counts / statistics.n
        return float((shares * np.log(shares)).sum()), "the features are constant"
    chosen = evenly(statistics, MOST)
    labels = statistics.labels[chosen]
    values = statistics.spectrum.values
    held = np.cumsum(values) / values.sum()
    rows = on_axes(statistics, chosen, int(np.searchsorted(held, KEPT)) + 1)
    rows /= np.sqrt(values[0] / statistics.n)
    clusters = min(CLUSTERS * statistics.n_classes, len(rows))
    found, settled = posteriors(rows, clusters)
    joint = np.zeros((statistics.n_classes, clusters))
    np.add.at(joint, labels, found)
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    value = float(np.log(np.einsum("nz,nz->n", found, conditional[labels])).mean())
    few = None
    if len(rows) <= clusters * rows.shape[1]:
        few = f"{len(rows)} samples for {clusters} Gaussians of {rows.shape[1]} dimensions: each describes its own few samples"
    bounded = f"{clusters} Gaussians, one a sample" if clusters == len(rows) else None
    unsettled = None if settled else f"the mixture has not settled in {STEPS} steps"
    return min(value, 0.0), joined(few, bounded, unsettled, said(statistics, chosen))


nleep = Metric(_measure)
