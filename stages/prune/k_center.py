"""k-center, greedily: pick image after image, always the one farthest from all that are picked.

Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985, as a coreset by Sener and Savarese, ICLR 2018,
arXiv 1708.00489, algorithm 1; within each class here. The first pick, which is free, is the image nearest to the mean. At any
number of picks the largest distance to a pick is at most twice the best possible. No target is looked at.

Costs what herding costs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import GroupScores, PruneInputs
from stages.prune.in_domain import InnerProducts, Points, score_classes, score_images, turns

_MEANING = "minus the share picked before by greedy k-center"


def k_center_order(points: Points) -> NDArray[np.int64]:
    """Return the order [m] in which greedy k-center picks the points [m, d]; equal distances go to the lower row."""
    products = InnerProducts(points - points.mean(axis=0))
    order = np.empty(len(points), dtype=np.int64)
    farness = np.full(len(points), np.inf)  # squared distance to the nearest pick
    picked = int(products.squares.argmin())
    for turn in range(len(points)):
        order[turn] = picked
        distances = products.squares + products.squares[picked] - 2 * products[picked]
        np.minimum(farness, np.maximum(distances, 0), out=farness)
        farness[picked] = -1  # below every point that is left, copies of picks included
        picked = int(farness.argmax())
    return order


def _score(points: Points) -> NDArray[np.float64]:
    return turns(k_center_order(points))


def prune(inputs: PruneInputs) -> GroupScores:
    """Keep, of each class, the images that greedy k-center picks first."""
    return score_images(inputs, _score, _MEANING)


def prune_classes(inputs: PruneInputs) -> GroupScores:
    """Keep the classes that greedy k-center picks first among the classes' means."""
    return score_classes(inputs, _score, _MEANING)
