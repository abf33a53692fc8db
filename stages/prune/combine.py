"""One answer for several targets, from each target's scores of the same groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import GroupScores, kept_of, ranked


def weighted_votes(by_target: Mapping[str, GroupScores], weights: Mapping[str, float]) -> GroupScores:
    """Add up each group's share of every target's votes, times the target's weight.

    A share is the score over the sum of all absolute scores of that target, so that a target with many images has no
    more to say than one with few. The soft masses are averaged with the same weights.

    Args:
        by_target: scores of the same groups, one entry a target.
        weights: above 0; 1 for a target that is not named.

    Returns:
        Scores whose sum is that of the weights where scores are votes.

    Raises:
        ValueError: the groups differ.
    """
    parts = _checked(by_target)
    share = {name: part.scores / (np.abs(part.scores).sum() or 1) for name, part in parts.items()}
    weight = {name: weights.get(name, 1.0) for name in parts}
    scores = np.sum([weight[name] * share[name] for name in parts], axis=0)
    soft = np.sum([weight[name] * part.soft_mass for name, part in parts.items()], axis=0) / sum(weight.values())
    reasons = [", ".join(f"{name} {value[group]:.4g}" for name, value in share.items()) for group in range(len(scores))]
    first = next(iter(parts.values()))
    warning = "; ".join(f"{name}: {part.warning}" for name, part in parts.items() if part.warning) or None
    return replace(
        first, warning=warning, scores=scores, soft_mass=soft, meaning=f"weighted shares of: {first.meaning}", reasons=reasons
    )


def union(by_target: Mapping[str, GroupScores], weights: Mapping[str, float]) -> GroupScores:
    """Rank each group by its best rank for any target; between groups of one best rank, weighted votes decide.

    `kept_by_any` tells how many of them a fraction keeps.

    Returns:
        Scores that are minus the best rank, counted from 1.
    """
    votes = weighted_votes(by_target, weights)
    ranks = {name: _ranks(part) for name, part in by_target.items()}
    best = np.min(list(ranks.values()), axis=0)
    reasons = [
        ", ".join(f"rank {best[group]} for {name}" for name, rank in ranks.items() if rank[group] == best[group])
        for group in range(len(best))
    ]
    # A soft mass in the order of the votes' own ranking: their ties are broken already.
    soft = -_ranks(votes).astype(np.float64)
    meaning = "minus the best rank for any of the targets"
    return replace(votes, scores=-best.astype(np.float64), soft_mass=soft, meaning=meaning, reasons=reasons)


def kept_by_any(scores: GroupScores, fraction: float) -> int:
    """Return how many groups a `union` keeps: all that any target alone would keep at the fraction, so often more."""
    return int(np.count_nonzero(-scores.scores <= kept_of(len(scores.scores), fraction)))


def _ranks(scores: GroupScores) -> NDArray[np.int64]:
    """Return the rank [G] of each group, from 1."""
    order = ranked(scores)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def _checked(by_target: Mapping[str, GroupScores]) -> Mapping[str, GroupScores]:
    parts = list(by_target.values())
    for part in parts[1:]:
        same = part.level == parts[0].level and len(part.scores) == len(parts[0].scores)
        if part.membership is not None and parts[0].membership is not None:
            same = same and np.array_equal(part.membership, parts[0].membership)
        if not same:
            raise ValueError("scores of other groups cannot be combined")
    return by_target
