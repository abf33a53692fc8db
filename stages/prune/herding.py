"""Herding: pick image after image so that the mean of those picked stays as near as it can to the class's mean.

Welling, "Herding dynamical weights to learn", ICML 2009, in the form of Rebuffi et al., "iCaRL", CVPR 2017, arXiv 1611.07725,
algorithm 4: the k-th pick is the argmin over x not yet picked of ||mean - (x + sum of those picked) / k||. A popular toolkit
takes the argmax, which walks away from the mean. No target is looked at.

A class of m images costs m^2 d for inner products and m^2 for picks: 1,000 classes of 1,280 in 512 dimensions are 10^12
operations, seconds; one class of 100,000 is 5 x 10^12 reads of memory, hours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import GroupScores, PruneInputs
from stages.prune.in_domain import InnerProducts, Points, score_classes, score_images, turns

_MEANING = "minus the share picked before by herding"


def herding_order(points: Points) -> NDArray[np.int64]:
    """Return the order [m] in which herding picks the points [m, d]; equal distances go to the lower row."""
    products = InnerProducts(points - points.mean(axis=0))
    # With the mean at 0, ||(x + S) / k||^2 = (||S||^2 + 2 x.S + ||x||^2) / k^2, and only 2 x.S + ||x||^2 tells points apart.
    cost = products.squares.copy()
    order = np.empty(len(points), dtype=np.int64)
    for turn in range(len(points)):
        picked = int(cost.argmin())
        order[turn] = picked
        cost += 2 * products[picked]
        cost[picked] = np.inf
    return order


def _score(points: Points) -> NDArray[np.float64]:
    return turns(herding_order(points))


def prune(inputs: PruneInputs) -> GroupScores:
    """Keep, of each class, the images that herding picks first."""
    return score_images(inputs, _score, _MEANING)


def prune_classes(inputs: PruneInputs) -> GroupScores:
    """Keep the classes that herding picks first among the classes' means."""
    return score_classes(inputs, _score, _MEANING)
