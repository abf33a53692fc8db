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


def target_mean(seen: Pairs) -> Predictor:
    """Predict the mean of the target's scores from the sources seen; no answer for a target that was not seen."""
    size = len(seen.languages)
    total, count = (np.bincount(seen.target, weights, size) for weights in (seen.scores, None))
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return lambda pairs: np.where(pairs.target < size, means[np.minimum(pairs.target, size - 1)], np.nan)


def always_english(seen: Pairs) -> Predictor:
    """Predict for every pair what English reaches on the targets seen; no answer where English is not among the sources."""
    of_english = seen.scores[seen.source == seen.position("en")]
    mean = float(of_english.mean()) if len(of_english) else np.nan
    return lambda pairs: np.full(len(pairs), mean)


def nearest(feature: str) -> Fit:
    """Return the model that predicts the score of the nearest language seen in the held-out language's place, by `feature`.

    For a new target: the source's score on the seen target nearest to it; for a new source of seen targets: the nearest seen
    source's score on the target. The distance between two languages a and b is read from the pair (a, b), so `predict` must be
    given all pairs of a held-out language at once. Of equal distances the first language by name counts. Without such a seen
    pair: the mean of the known side.
    """

    def fit(seen: Pairs) -> Predictor:
        new_source = seen.means == ("target",)
        fallback = target_mean(seen) if new_source else source_mean(seen)

        def predict(pairs: Pairs) -> NDArray[np.float64]:
            known, new = (pairs.target, pairs.source) if new_source else (pairs.source, pairs.target)
            scores = np.full((len(pairs.languages), len(pairs.languages)), np.nan)
            scores[(seen.target, seen.source) if new_source else (seen.source, seen.target)] = seen.scores
            distances = pairs.features[:, pairs.names.index(feature)]
            found = fallback(pairs)
            for language in np.unique(new):
                rows = np.flatnonzero(new == language)
                told = rows[~np.isnan(distances[rows])]
                neighbours = known[told][np.lexsort((pairs.languages[known[told]], distances[told]))]
                if len(neighbours):
                    candidates = scores[known[rows][:, None], neighbours[None, :]]  # [rows, neighbours], nearest first
                    first = np.argmax(~np.isnan(candidates), axis=1)
                    nearby = candidates[np.arange(len(rows)), first]
                    found[rows] = np.where(np.isnan(nearby), found[rows], nearby)
            return found

        return predict

    return fit
