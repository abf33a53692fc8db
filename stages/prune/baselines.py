"""What a pruning method has to beat: chance, and its own opposite."""

from __future__ import annotations

import numpy as np

from stages.prune import by_label
from stages.prune.contract import GroupScores, PruneInputs


def prune_random(inputs: PruneInputs) -> GroupScores:
    """Put the source's classes in a random order."""
    n_groups = len(inputs.group_names)
    return GroupScores(inputs.generator.permutation(n_groups).astype(np.float64), np.zeros(n_groups), drawn=True)


def prune_reversed(inputs: PruneInputs) -> GroupScores:
    """Label mapping upside down: the classes that fit the target least come first."""
    best_first = by_label.prune(inputs)
    return GroupScores(-best_first.scores, -best_first.soft_mass)
