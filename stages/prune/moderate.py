"""Moderate: neither the most typical images of a class nor the strangest.

Xia et al., "Moderate Coreset", ICLR 2023, with the centre taken as the coordinate-wise median of the class's features, as in
the authors' program: images are ordered by their distance to it, and those in the middle of the order are kept. No target is
looked at. A class costs its number of images times d; n log n beyond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stages.prune.contract import GroupScores, PruneInputs
from stages.prune.in_domain import Points, score_classes, score_images

_MEANING = "minus the distance to the middle rank"


def moderate(points: Points) -> NDArray[np.float64]:
    """Return, for points [m, d], minus |rank / m - 1/2| of the distance to the median: 0 is the middle, -1/2 an end.

    Ranks count from 1/2, and equal distances share their mean rank.
    """
    distances = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    ranks = stats.rankdata(distances) - 0.5
    scores: NDArray[np.float64] = -np.abs(ranks / len(points) - 0.5)
    return scores


def prune(inputs: PruneInputs) -> GroupScores:
    """Keep, of each class, the images at a middling distance to the class's median."""
    return score_images(inputs, moderate, _MEANING)


def prune_classes(inputs: PruneInputs) -> GroupScores:
    """Keep the classes whose mean is at a middling distance to the median of the classes' means."""
    return score_classes(inputs, moderate, _MEANING)
