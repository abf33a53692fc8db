"""Shared by the pruners that look at the source alone: scores within each class, and of whole classes.

At the level of images, a method that orders points is run within each class, so all classes shrink alike; at the level of
classes it is run once, on the classes' mean features. Classes without training images come last.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.prune.by_feature import group_means
from stages.prune.contract import GroupScores, PruneInputs, images_by_class, labels_of, require_finite

Points = NDArray[np.float64]
Order = Callable[[Points], NDArray[np.int64]]  # [m, d] -> [m], the point kept longest first
LAST = -1.0  # below every score here: the lowest that a method gives is above it
LARGE = 4096  # points whose inner products are kept, 128 MiB; above, one column is computed when it is needed


def score_images(inputs: PruneInputs, score: Callable[[Points], NDArray[np.float64]], meaning: str) -> GroupScores:
    """Score the images of each class by `score`; one class is in memory at a time.

    Raises:
        InputProblem: the source has no labels, or a feature is not finite.
    """
    labels = labels_of(inputs)
    scores = np.zeros(len(labels))
    for members in images_by_class(labels, len(inputs.group_names)):
        if len(members):
            points = np.asarray(inputs.source_features[members], dtype=np.float64)
            require_finite(points, "the source's features")
            scores[members] = score(points)
    return GroupScores(scores, np.zeros(len(scores)), level="image", meaning=meaning)


def score_classes(inputs: PruneInputs, score: Callable[[Points], NDArray[np.float64]], meaning: str) -> GroupScores:
    """Score the classes by `score` of their mean features; raises InputProblem as `score_images` does."""
    labels, n_classes = labels_of(inputs), len(inputs.group_names)
    means, counts = group_means(inputs.source_features, labels, n_classes)
    require_finite(means, "the source's features")
    scores = np.full(n_classes, LAST)
    scores[counts > 0] = score(means[counts > 0])
    return GroupScores(scores, np.zeros(n_classes), meaning=meaning)


def mean_by_class(scores: NDArray[np.float64], labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return the mean score [n_classes] of each class's images."""
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=scores, minlength=n_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), LAST)


def turns(order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a score [m] for each point of an order: 0 for the first, falling evenly to just above -1.

    So of two classes with 10 and 100 images, a tenth of each is kept at the same score.
    """
    scores = np.empty(len(order))
    scores[order] = -np.arange(len(order)) / len(order)
    return scores


class InnerProducts:
    """Rows of X X' for points X [m, d]: kept at once for few points, computed when asked for many."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._kept = points @ points.T if len(points) <= LARGE else None
        self.squares: NDArray[np.float64] = np.einsum("nd,nd->n", points, points)

    def __getitem__(self, row: int) -> NDArray[np.float64]:
        of_row: NDArray[np.float64] = self._points @ self._points[row] if self._kept is None else self._kept[row]
        return of_row
