"""Predictors that look at no feature, or at one distance. On several published tables one of them wins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Fit, Pairs, Predictor


def global_mean(seen: Pairs) -> Predictor:
    """Predict the mean of all scores seen."""
    mean = float(seen.scores.mean())
    return lambda pairs: np.full(len(pairs), mean)


def source_mean(seen: Pairs) -> Predictor:
    """Predict the mean of the source's scores on the targets seen; the global mean for a source that was not seen."""
    means = np.full(len(seen.languages), seen.scores.mean())
    counts = np.bincount(seen.source, minlength=len(means))
    known = counts > 0
    means[known] = np.bincount(seen.source, seen.scores, minlength=len(means))[known] / counts[known]
    elsewhere = float(seen.scores.mean())

    def predict(pairs: Pairs) -> NDArray[np.float64]:
        new = pairs.source >= len(means)
        return np.where(new, elsewhere, means[np.where(new, 0, pairs.source)])

    return predict


def always_english(seen: Pairs) -> Predictor:
    """Predict for every pair what English reaches on the targets seen; no answer where English is not among the sources."""
    of_english = seen.scores[seen.source == seen.position("en")]
    mean = float(of_english.mean()) if len(of_english) else np.nan
    return lambda pairs: np.full(len(pairs), mean)


def nearest(feature: str) -> Fit:
    """Return the model that predicts the source's score on the seen target nearest to the new target by `feature`.

    The distance between two targets a and b is read from the pair (a, b), so `predict` must be given all pairs of a target
    at once. Of equal distances the first language by name counts. Without such a seen pair: the source's mean.
    """

    def fit(seen: Pairs) -> Predictor:
        fallback = source_mean(seen)

        def predict(pairs: Pairs) -> NDArray[np.float64]:
            scores = np.full((len(pairs.languages), len(pairs.languages)), np.nan)
            scores[seen.source, seen.target] = seen.scores
            distances = pairs.features[:, pairs.names.index(feature)]
            found = fallback(pairs)
            for target in np.unique(pairs.target):
                rows = np.flatnonzero(pairs.target == target)
                known = rows[~np.isnan(distances[rows])]
                neighbours = pairs.source[known][np.lexsort((pairs.sources[known], distances[known]))]
                if len(neighbours):
                    candidates = scores[pairs.source[rows][:, None], neighbours[None, :]]  # [rows, neighbours], nearest first
                    first = np.argmax(~np.isnan(candidates), axis=1)
                    nearby = candidates[np.arange(len(rows)), first]
                    found[rows] = np.where(np.isnan(nearby), found[rows], nearby)
            return found

        return predict

    return fit
