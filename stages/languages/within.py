"""Least-squares lines with an intercept of their own for each series."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """A least-squares line with an intercept of its own for each series.

    `middle` is the mean of x and of y over the series, `varies` the sum of squares of x inside them, `variance` that of a
    residual with `freedom` degrees of freedom (None without any), `error` the slope's standard error (None where it is not
    known), `r2` of what varies inside the series.
    """

    middle: tuple[float, float]
    slope: float
    varies: float
    n: int
    variance: float | None
    freedom: float
    error: float | None
    r2: float | None

    @property
    def offset(self) -> float:
        """Return the line's height at x = 0, the mean over series."""
        return self.middle[1] - self.slope * self.middle[0]

    def quantile(self, level: float = LEVEL) -> float:
        """Return Student's two-sided quantile for the line's degrees of freedom."""
        from scipy import stats

        return float(stats.t.ppf((1 + level) / 2, self.freedom))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the slope's 95% interval."""
        if self.error is None:
            return None
        half = self.quantile() * self.error
        return self.slope - half, self.slope + half


def within_line(x: NDArray[np.float64], y: NDArray[np.float64], series: NDArray[np.int64]) -> Line | None:
    """Fit y = intercept[series] + slope x on x, y, series [n]; None where x varies inside no series."""
    names, index, counts = np.unique(series, return_inverse=True, return_counts=True)
    x_means, y_means = (np.bincount(index, values) / counts for values in (x, y))
    dx, dy = x - x_means[index], y - y_means[index]
    varies = float(dx @ dx)
    if varies <= 1e-12:
        return None
    slope = float(dx @ dy) / varies
    residual, total = float(np.sum((dy - slope * dx) ** 2)), float(dy @ dy)
    freedom = len(x) - len(names) - 1
    variance = residual / freedom if freedom > 0 else None
    return Line(
        middle=(float(np.mean(x_means)), float(np.mean(y_means))),
        slope=slope,
        varies=varies,
        n=len(x),
        variance=variance,
        freedom=freedom,
        error=None if variance is None else math.sqrt(variance / varies),
        r2=1 - residual / total if total > 1e-15 else None,
    )
