"""The Gaussian mixtures on which arXiv 2302.02334 (ICML 2023) counts examples, with everything that is known of them exactly.

K classes of equal prior in n dimensions. Class k is Gaussian with mean a_k in every coordinate, a_0 = -1 and
a_k = 2^(k-1) for k >= 1, and variance n in the first half of the coordinates, 1 in the others, the same for all classes.

All means lie on one line and the covariance is shared, so one projection is sufficient: t = 1' S^-1 x / s with
s^2 = 1' S^-1 1 is Gaussian with mean a_k s and variance 1 in class k. Posterior and Bayes error follow in one dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True)
class Mixture:
    """One mixture.

    Args:
        n_classes: K >= 2.
        n_dims: n >= 2.
    """

    n_classes: int
    n_dims: int

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Return a_k [K], the value of every coordinate of the class means, ascending."""
        return np.concatenate([[-1.0], 2.0 ** np.arange(self.n_classes - 1)])

    @cached_property
    def variances(self) -> NDArray[np.float64]:
        """Return the variances [n] of the coordinates within a class."""
        return np.where(np.arange(self.n_dims) < self.n_dims // 2, float(self.n_dims), 1.0)

    @property
    def sharpness(self) -> float:
        """Return s, the distance in standard deviations between two classes whose centres differ by 1."""
        return float(np.sqrt((1 / self.variances).sum()))

    @property
    def bayes_error(self) -> float:
        """Return the least possible error: 2/K times the sum over neighbouring classes of Phi(-s gap / 2)."""
        gaps = np.diff(self.centres)
        return float(2 / self.n_classes * special.ndtr(-self.sharpness * gaps / 2).sum())

    def points(self, labels: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
        """Return one point of the class of each of `labels` [m], as [m, n]."""
        points = random.standard_normal((len(labels), self.n_dims))
        points *= np.sqrt(self.variances)
        points += self.centres[labels, None]
        return points

    def log_posterior(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the true log p(k | x) of points [m, n], as [m, K]."""
        along = points @ (1 / self.variances)  # (m,) s times the sufficient statistic
        scores = np.outer(along, self.centres) - self.sharpness**2 * self.centres**2 / 2
        return cast("NDArray[np.float64]", special.log_softmax(scores, axis=1))
