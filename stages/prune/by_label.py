"""Label mapping: how many target images does a classifier of the source take for each source class?

Zhang et al., "Selectivity Drives Productivity: Efficient Dataset Pruning for Enhanced Transfer Learning",
NeurIPS 2023, arXiv 2310.08782, section 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.prune.contract import GroupScores, PruneInputs, labels_of, one_sided, require_finite

_MEANING = "votes of the target's images"


def label_mapping(target_probabilities: NDArray[Any], n_groups: int) -> GroupScores:
    """Score each source class by the number of target images whose most probable class it is.

    Args:
        target_probabilities: [t, n_groups] source-class probabilities of the target's training images.
        n_groups: number of source classes.

    Returns:
        Scores that sum to t; the soft mass is the mean probability. An image between two classes of equal
        probability votes for the lower id.

    Raises:
        ValueError: the probabilities do not have n_groups columns, or no rows.
        InputProblem: they are not finite.
    """
    if target_probabilities.ndim != 2 or target_probabilities.shape[1] != n_groups or not len(target_probabilities):
        raise ValueError(f"probabilities {target_probabilities.shape} do not fit {n_groups} groups")
    require_finite(target_probabilities, "the target's probabilities")
    votes = np.bincount(target_probabilities.argmax(axis=1), minlength=n_groups).astype(np.float64)
    soft_mass = target_probabilities.mean(axis=0, dtype=np.float64)
    return GroupScores(votes, soft_mass, meaning=_MEANING, warning=one_sided(votes))


def prune(inputs: PruneInputs) -> GroupScores:
    """Label mapping as a pruner; raises InputProblem where source or surrogate has no labels."""
    labels_of(inputs)
    if inputs.target_probabilities is None:
        raise InputProblem(
            "label mapping needs probabilities of the source's classes, and the surrogate's head is absent or knows others",
            next_step="in prune.methods use feature_mapping instead, or a surrogate that is trained on the source's labels; "
            "a weights file names its classes in the entry `classes` of its metadata",
        )
    return label_mapping(inputs.target_probabilities, len(inputs.group_names))
