"""PARC: whether samples of one class are nearer to each other than to others, by rank correlation over all pairs.

Bolya et al., NeurIPS 2021, arXiv 2111.06977: on the first 32 principal components, each standardised over the samples,

    score = 100 Spearman(1 - corr(x_i, x_j), 1 - corr(e_i, e_j))    over pairs i < j, e the one-hot labels

In [-100, 100]. Two one-hot labels have one of two correlations, so that the rank correlation follows from the sum of the
ranks of the pairs of one class. Pearson's correlation of two rows depends on the signs of the components, which the paper
leaves open (and whose choice in scikit-learn has changed): here each points to where its distribution has its longer tail.

Pairs grow with n squared: beyond 4,000 samples, as many are taken evenly from each class's order by distance to the mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.rank.metric import Finding, Metric, joined
from stages.rank.sampling import evenly, on_axes, said
from stages.rank.statistics import Float, Statistics

DIMENSIONS = 32
MOST = 4000
PLACES = 12  # decimals to which distances count: copies are equally far apart whatever the rounding


def spearman_of_two_groups(low: Float, high: Float) -> float | None:
    """Return Spearman's correlation of values with belonging to `high`; None where all values are equal."""
    values = np.concatenate([low, high])
    values.sort()
    count = len(values)
    again = np.flatnonzero(values[1:] == values[:-1])  # few, where there are many values
    if len(again) == count - 1:
        return None
    runs = np.split(again, np.flatnonzero(np.diff(again) > 1) + 1)
    ties = np.array([len(run) + 1 for run in runs if len(run)], dtype=np.float64)
    variance = (float(count) ** 2 - 1) / 12 - float((ties**3 - ties).sum()) / 12 / count
    found = np.sort(low)
    ranks = (np.searchsorted(values, found, "left") + np.searchsorted(values, found, "right") + 1) / 2
    share = len(low) / count
    # Ranks have mean (count + 1) / 2, which fixes the mean of the other group.
    gap = ((count + 1) / 2 - float(ranks.mean())) / (1 - share)
    return gap * float(np.sqrt(share * (1 - share) / variance))


def _directions(statistics: Statistics, chosen: NDArray[np.int64]) -> Float:
    """Return unit rows whose products are the correlations of the chosen samples [m, q], 0 for a row without variation."""
    rows = on_axes(statistics, chosen, DIMENSIONS)
    rows *= np.where((rows**3).sum(axis=0) < 0, -1.0, 1.0)
    spread = rows.std(axis=0)
    rows = np.divide(rows, spread, out=np.zeros_like(rows), where=spread > 0)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 10.0**-PLACES))


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return None, "the features are constant: no pair is nearer than another"
    if len(statistics.spectrum.values) < 2:
        return None, "the features vary along one axis: rows of one number have no correlation"
    chosen = evenly(statistics, MOST)
    labels = statistics.labels[chosen]
    rows = _directions(statistics, chosen)[np.argsort(labels, kind="stable")]
    ends = np.cumsum(np.bincount(labels, minlength=statistics.n_classes))
    same, other = [], []
    for start, end in zip(np.append(0, ends[:-1]).tolist(), ends.tolist(), strict=True):
        own = rows[start:end]
        same.append((own @ own.T)[np.triu_indices(end - start, 1)])
        other.append((own @ rows[end:].T).ravel())
    near, far = np.concatenate(same), np.concatenate(other)
    for part in (near, far):
        np.subtract(1, part, out=part)
        np.round(part, PLACES, out=part)
    if not len(near):
        return None, "no class has two samples: there are no pairs of one class"
    value = spearman_of_two_groups(near, far)
    flat = int((~rows.any(axis=1)).sum())
    unmoved = f"{flat} samples do not vary over the components" if flat else None
    equal = "all pairs are equally far apart" if value is None else None
    few = None
    if rows.shape[1] == 2:
        few = "the features vary along two axes: rows of two numbers correlate by 1 or -1"
    return None if value is None else 100 * min(max(value, -1.0), 1.0), joined(equal, said(statistics, chosen), unmoved, few)


parc = Metric(_measure)
