"""EL2N: images that a classifier early in training gets most wrong are worth most.

Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv 2107.07075, definition 2.2:
||p(x) - onehot(y)||_2, averaged over training runs; which runs, `stages.prune.early` says. No target is looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import GroupScores, PruneInputs, labels_of
from stages.prune.early import error_norms
from stages.prune.in_domain import mean_by_class

_MEANING = "EL2N of a linear head early in training"


def el2n(inputs: PruneInputs) -> NDArray[np.float64]:
    """Return the score [n] of each image, 0 to sqrt(2); raises InputProblem where the source has no labels."""
    return np.concatenate([norms for _, norms, _ in error_norms(inputs)])


def prune(inputs: PruneInputs) -> GroupScores:
    """Keep the images with the largest EL2N."""
    scores = el2n(inputs)
    return GroupScores(scores, np.zeros(len(scores)), level="image", drawn=True, meaning=_MEANING)


def prune_classes(inputs: PruneInputs) -> GroupScores:
    """Keep the classes with the largest mean EL2N."""
    scores = mean_by_class(el2n(inputs), labels_of(inputs), len(inputs.group_names))
    return GroupScores(scores, np.zeros(len(scores)), drawn=True, meaning=f"mean {_MEANING}")
