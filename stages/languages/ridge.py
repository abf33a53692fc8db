"""Ridge regression of the transfer score on the pair's features and the source's strength, its penalty chosen by target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Pairs, Predictor

ALPHAS = np.logspace(-1, 4, 11)  # penalties, in rows of standardised features
INNER_FOLDS = 5


def target_folds(target: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Yield the target languages among `target` [n] in at most `most` disjoint groups, dealt out in their order."""
    languages = np.unique(target)
    for first in range(min(most, len(languages))):
        yield languages[first::most]


def strength(seen: Pairs, pairs: Pairs) -> NDArray[np.float64]:
    """Return each pair's source's mean score over the other targets seen [n], NaN where there is none.

    The pair's own target is left out, so that a pair being fitted does not see its own score.
    """
    size = len(pairs.languages)
    all_of = [np.bincount(seen.source, weights, size) for weights in (seen.scores, None)]
    own_of = [np.bincount(seen.source * size + seen.target, weights, size * size) for weights in (seen.scores, None)]
    own = pairs.source * size + pairs.target
    total, count = (every[pairs.source] - of_pair[own] for every, of_pair in zip(all_of, own_of, strict=True))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


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


def paths(features: NDArray[np.float64], scores: NDArray[np.float64], alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ridge coefficients [alphas, f] for centred scores: (X'X + alpha I)^-1 X'(y - mean y), by one eigensystem."""
    values, vectors = np.linalg.eigh(features.T @ features)
    projected = vectors.T @ (features.T @ (scores - scores.mean()))
    return np.asarray((vectors @ (projected[None, :] / (np.maximum(values, 0.0) + alphas[:, None])).T).T)


def _fit(seen: Pairs, alphas: NDArray[np.float64], pairs: Pairs) -> NDArray[np.float64]:
    """Return predictions [alphas, n] for `pairs` of a fit on `seen`."""
    design = np.column_stack([seen.features, strength(seen, seen)])
    scale = Scale.of(design)
    coefficients = paths(scale(design), seen.scores, alphas)
    asked = scale(np.column_stack([pairs.features, strength(seen, pairs)]))
    return np.asarray(coefficients @ asked.T + seen.scores.mean())


def choose_alpha(seen: Pairs) -> float:
    """Return the penalty with the least squared error on targets left out in groups; the largest where there is one target."""
    errors = np.zeros(len(ALPHAS))
    for fold in target_folds(seen.target, INNER_FOLDS):
        rest, asked = seen.without(fold), seen.into(fold)
        if len(rest):
            errors += ((_fit(rest, ALPHAS, asked) - asked.scores) ** 2).sum(axis=1)
    return float(ALPHAS[np.flatnonzero(errors == errors.min())[-1]])


def ridge(seen: Pairs) -> Predictor:
    """Fit a ridge regression; see the module for what it sees."""
    alpha = np.array([choose_alpha(seen)])
    return lambda pairs: np.asarray(_fit(seen, alpha, pairs)[0])
