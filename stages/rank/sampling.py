"""Which samples stand for all where a metric cannot afford them, and their coordinates on the principal axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.rank.statistics import Float, Statistics


def evenly(statistics: Statistics, most: int) -> NDArray[np.int64]:
    """Return at most `most` rows, ascending, each class in proportion and spread over its distances to the mean."""
    if statistics.n <= most:
        return np.arange(statistics.n)
    order = np.lexsort((statistics.squared_norms, statistics.labels))  # classes one after the other
    return np.sort(order[(2 * np.arange(most) + 1) * statistics.n // (2 * most)])


def on_axes(statistics: Statistics, chosen: NDArray[np.int64], dimensions: int | None = None) -> Float:
    """Return chosen rows on the first principal axes of all [m, min(dimensions, k)], all k of them for None, centred."""
    spectrum = statistics.spectrum
    kept = len(spectrum.values) if dimensions is None else min(dimensions, len(spectrum.values))
    if spectrum.left is not None:
        rows = spectrum.left[chosen, :kept] * np.sqrt(spectrum.values[:kept])
    else:
        assert spectrum.right is not None
        rows = np.subtract(statistics.raw(chosen), statistics.mean, dtype=np.float64) @ spectrum.right[:, :kept]
    return np.asarray(rows - rows.mean(axis=0))


def said(statistics: Statistics, chosen: NDArray[np.int64]) -> str | None:
    """Return a warning where not all samples were chosen."""
    return f"on {len(chosen)} of {statistics.n} samples" if len(chosen) < statistics.n else None
