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


def on_axes(statistics: Statistics, chosen: NDArray[np.int64], dimensions: int) -> Float:
    """Return chosen rows on the first principal axes of all rows [m, min(dimensions, k)], centred."""
    spectrum = statistics.spectrum
    kept = min(dimensions, len(spectrum.values))
    if spectrum.left is not None:
        rows = spectrum.left[chosen, :kept] * np.sqrt(spectrum.values[:kept])
    else:
        rows = np.subtract(statistics.raw(chosen), statistics.mean, dtype=np.float64) @ statistics.axes(kept)
    return np.asarray(rows - rows.mean(axis=0))


def on_own_axes(statistics: Statistics, chosen: NDArray[np.int64]) -> Float:
    """Return chosen rows on all principal axes of their own [m, k], centred; m rows span at most m - 1 of them."""
    part = statistics
    if len(chosen) < statistics.n:
        part = Statistics(statistics.raw(chosen), statistics.labels[chosen], accelerator=statistics.accelerator)
    return part.principal(part.d)


def said(statistics: Statistics, chosen: NDArray[np.int64]) -> str | None:
    """Return a warning where not all samples were chosen."""
    return f"on {len(chosen)} of {statistics.n} samples" if len(chosen) < statistics.n else None
