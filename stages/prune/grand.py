"""GraNd: images whose loss has the longest gradient early in training are worth most.

Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv 2107.07075, definition 2.1, for the weights
and biases of the last layer, where the norm has a closed form: the gradient of the cross-entropy is the outer product of
(p - y) and the layer's input with a one appended, so its length is the product of both lengths. Averaged over the runs of
`stages.prune.early`, whose head's input is the scaled features. No target is looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import GroupScores, PruneInputs, labels_of
from stages.prune.early import error_norms
from stages.prune.in_domain import mean_by_class

_MEANING = "length of the last layer's gradient early in training"


def grand(inputs: PruneInputs) -> NDArray[np.float64]:
    """Return the score [n] of each image; raises InputProblem where the source has no labels."""
    return np.concatenate([norms * lengths for _, norms, lengths in error_norms(inputs)])


def prune(inputs: PruneInputs) -> GroupScores:
    """Keep the images with the longest gradient."""
    scores = grand(inputs)
    return GroupScores(scores, np.zeros(len(scores)), level="image", drawn=True, meaning=_MEANING)


def prune_classes(inputs: PruneInputs) -> GroupScores:
    """Keep the classes with the longest mean gradient."""
    scores = mean_by_class(grand(inputs), labels_of(inputs), len(inputs.group_names))
    return GroupScores(scores, np.zeros(len(scores)), drawn=True, meaning=f"mean {_MEANING}")
