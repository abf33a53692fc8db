"""Ridge regression of the transfer score on the pair's features and the known sides' means, for a path of penalties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Pairs, Predictor

ALPHAS = np.logspace(4, -1, 11)  # penalties, in rows of standardised features; the strongest is the simplest model


@dataclass(frozen=True)
class Scale:
    """Imputation and standardisation learnt from the rows seen: unknown becomes the mean, constant columns become 0."""

    mean: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float64]) -> Scale:
        """Learn from features [n, f] with NaN where unknown."""
        known = ~np.isnan(features)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, features, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, features - mean, 0.0) ** 2).sum(axis=0) / count)
        return cls(mean, np.where(spread > 1e-12 * np.maximum(1.0, np.abs(mean)), spread, np.inf))

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isnan(features), 0.0, (features - self.mean) / self.width)


def design(seen: Pairs, pairs: Pairs) -> NDArray[np.float64]:
    """Return the features of `pairs` with the means of their known sides over the pairs seen, [n, f + sides]."""
    return np.column_stack([pairs.features, *(seen.mean_of_others(pairs, side) for side in pairs.means)])


def paths(features: NDArray[np.float64], scores: NDArray[np.float64], alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ridge coefficients [alphas, f] for centred scores: (X'X + alpha I)^-1 X'(y - mean y), by one eigensystem."""
    values, vectors = np.linalg.eigh(features.T @ features)
    projected = vectors.T @ (features.T @ (scores - scores.mean()))
    return np.asarray((vectors @ (projected[None, :] / (np.maximum(values, 0.0) + alphas[:, None])).T).T)


def ridge(seen: Pairs) -> Predictor:
    """Fit the whole path; predicts [alphas, n]."""
    columns = design(seen, seen)
    scale = Scale.of(columns)
    coefficients = paths(scale(columns), seen.scores, ALPHAS)
    mean = float(seen.scores.mean())
    return lambda pairs: np.asarray(coefficients @ scale(design(seen, pairs)).T + mean)
