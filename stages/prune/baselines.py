"""What a pruning method has to beat: chance, and its own opposite."""

from __future__ import annotations

import numpy as np

from stages.prune import by_label
from stages.prune.contract import GroupScores, PruneInputs, labels_of


def prune_random(inputs: PruneInputs) -> GroupScores:
    """Put the source's classes in a random order."""
    labels_of(inputs)
    n_groups = len(inputs.group_names)
    scores = inputs.generator.permutation(n_groups).astype(np.float64)
    return GroupScores(scores, np.zeros(n_groups), drawn=True, meaning="random order")


def prune_random_images(inputs: PruneInputs) -> GroupScores:
    """Put the source's images in a random order, whatever their classes."""
    n = len(inputs.source_ids)
    scores = inputs.generator.permutation(n).astype(np.float64)
    return GroupScores(scores, np.zeros(n), level="image", drawn=True, meaning="random order")


def prune_reversed(inputs: PruneInputs) -> GroupScores:
    """Label mapping upside down: the classes that fit the target least come first."""
    best_first = by_label.prune(inputs)
    return GroupScores(
        -best_first.scores, -best_first.soft_mass, meaning=f"minus {best_first.meaning}", warning=best_first.warning
    )
