"""Feature mapping: which group of the source lies nearest to each target image?

Zhang et al., NeurIPS 2023, arXiv 2310.08782, section 4: groups are classes, or clusters where labels are missing; every target
image votes for the group whose mean is nearest in the surrogate's feature space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import BLOCK, GroupScores, Matrix, PruneInputs, blocks, labels_of, one_sided, require_finite

_MEANING = "votes of the target's images"
_CELLS = 2**21  # distances held at once, 8 MiB: all that is done to them finds them in the processor's cache
_PAIRS = 65536  # (image, group) pairs whose distance is computed exactly at once


def feature_mapping(source_features: Matrix, source_groups: NDArray[Any], target_features: NDArray[Any]) -> GroupScores:
    """Score each group by the number of target images whose nearest group mean (Euclidean) it is.

    Args:
        source_features: [n, d].
        source_groups: [n] ids from 0; the highest sets the number of groups.
        target_features: [t, d].

    Returns:
        Scores that sum to t; equal distances go to the lower id. The soft mass is minus the mean squared distance
        from the target's images to the group's mean. A group without source images is never the nearest.

    Raises:
        ValueError: there is no source or target image, or the widths differ.
        InputProblem: a feature is not finite.
    """
    return _mapped(source_features, source_groups, target_features, int(np.max(source_groups, initial=-1)) + 1)


def _mapped(source: Matrix, groups: NDArray[Any], target: NDArray[Any], n_groups: int) -> GroupScores:
    if not len(groups) or not len(target) or source.shape != (len(groups), target.shape[1]):
        raise ValueError(f"source {source.shape}, groups {groups.shape} and target {target.shape} do not fit")
    means, counts = group_means(source, groups, n_groups)
    require_finite(means, "the source's features")
    require_finite(target, "the target's features")
    filled = np.flatnonzero(counts)
    votes = np.zeros(n_groups)
    votes[filled] = np.bincount(nearest_mean(target, means[filled]), minlength=len(filled))
    return GroupScores(votes, -_mean_squared_distance(target, means, filled), meaning=_MEANING, warning=one_sided(votes))


def prune(inputs: PruneInputs) -> GroupScores:
    """Feature mapping with the source's classes as groups."""
    return _mapped(inputs.source_features, labels_of(inputs), inputs.target_features, len(inputs.group_names))


def group_means(features: Matrix, groups: NDArray[Any], n_groups: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the means [n_groups, d] (0 for a group without rows) and the sizes [n_groups], in one pass over the rows."""
    from stages.prune.sums import add_rows  # numba, half a second that readers of the registry need not pay

    sums = np.zeros((n_groups, features.shape[1]))
    for rows, block in blocks(features):
        add_rows(np.ascontiguousarray(block), groups[rows], sums)
    counts = np.bincount(groups, minlength=n_groups).astype(np.int64)
    return sums / np.maximum(counts, 1)[:, None], counts


def nearest_mean(features: Matrix, means: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return, for each row [n, d], the id of the nearest of the means [g, d]; equal distances go to the lower id.

    Distances come from one float32 matrix product. Where its rounding could decide, between means whose distances
    differ by less than the product's error bound, they are computed again by differences in float64; so the answer
    depends neither on the BLAS nor on its number of threads.
    """
    centre = means.mean(axis=0)  # distances do not change, and the products below lose fewer digits
    centred = (means - centre).astype(np.float32)
    half_squares = 0.5 * np.einsum("gd,gd->g", centred, centred, dtype=np.float64).astype(np.float32)
    longest = float(np.sqrt(2 * half_squares.max(initial=0.0)))
    # |fl(x.m) - x.m| <= d eps |x||m|, and centring rounds x and m by eps each; twice, for two groups compared.
    relative = 2.0 * (means.shape[1] + 8) * float(np.finfo(np.float32).eps)
    found = np.empty(features.shape[0], dtype=np.int64)
    for rows, block in blocks(features, max(1, min(BLOCK, _CELLS // max(1, len(means))))):
        exact = np.asarray(block, dtype=np.float64)
        moved = (exact - centre).astype(np.float32)
        distances = moved @ centred.T  # [b, g]
        np.subtract(half_squares, distances, out=distances)  # half the squared distance less half of |x|^2
        nearest = distances.argmin(axis=1)
        lengths = np.sqrt(np.einsum("nd,nd->n", moved, moved))
        bound = distances[np.arange(len(nearest)), nearest] + relative * longest * (lengths + longest)
        candidates = distances <= bound[:, None]
        unsure = np.flatnonzero(np.count_nonzero(candidates, axis=1) > 1)
        nearest[unsure] = _nearest_exactly(exact[unsure], means, candidates[unsure])
        found[rows] = nearest
    return found


def _nearest_exactly(features: NDArray[Any], means: NDArray[np.float64], candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    distances = np.full(candidates.shape, np.inf)
    images, groups = np.nonzero(candidates)
    for start in range(0, len(images), _PAIRS):
        image, group = images[start : start + _PAIRS], groups[start : start + _PAIRS]
        distances[image, group] = np.square(features[image] - means[group]).sum(axis=1)
    chosen: NDArray[np.int64] = distances.argmin(axis=1)
    return chosen


def _mean_squared_distance(target: NDArray[Any], means: NDArray[np.float64], filled: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean squared distance [g] to each mean; for a group without rows, more than to any other."""
    centre = target.mean(axis=0, dtype=np.float64)
    spread = sum(float(np.square(block - centre).sum()) for _, block in blocks(target)) / len(target)
    distances: NDArray[np.float64] = np.square(means - centre).sum(axis=1) + spread
    empty = np.ones(len(means), dtype=bool)
    empty[filled] = False
    distances[empty] = 2 * distances[filled].max() + 1
    return distances
