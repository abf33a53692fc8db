"""Near-duplicates go first: within a k-means cluster, images that resemble an earlier one are worth little.

Abbas et al., "SemDeDup", 2023, arXiv 2303.09540, section 3: rows are scaled to length one and clustered; the images of a
cluster are put in the order of their cosine to its centroid, the lowest first, which the paper keeps; an image's score is
minus its largest cosine to any earlier one. Keeping scores above -(1 - epsilon) is the paper's rule; here the share to keep
sets epsilon. No label and no target is looked at.

A cluster of m images costs m^2 d: 1.28 million images in 2,000 clusters are some 10^12 operations, a minute. More
clusters cost less, and see fewer pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.prune.by_cluster import kmeans_clusters
from stages.prune.contract import GroupScores, PruneInputs, UnitRows, images_by_class

DIGITS = 9  # cosines are rounded: their last digits depend on the BLAS, and copies of an image must tie
_MEANING = "minus the largest cosine to an earlier image of the cluster"
_PAIRS = 2**24  # cosines in memory at once


def largest_cosines(units: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return, for the unit rows [m, d] of one cluster, what decides.

    Returns:
        [m] largest cosine to an earlier row, -1 for the first; [m] the earlier row, or the row itself for the first;
        [m] cosine to the centroid, by which rows are earlier or later (equal: the lower row is earlier).
    """
    centroid = units.mean(axis=0)
    centroid /= np.linalg.norm(centroid) or 1
    to_centroid = np.round(units @ centroid, DIGITS)
    order = np.argsort(to_centroid, kind="stable")
    ordered = units[order]
    cosines, nearest = np.full(len(units), -1.0), order.copy()
    step = max(1, _PAIRS // len(units))
    for start in range(1, len(units), step):
        end = min(start + step, len(units))
        block = np.clip(np.round(ordered[start:end] @ ordered[: end - 1].T, DIGITS), -1, 1)
        earlier = np.arange(end - 1) < np.arange(start, end)[:, None]
        block[~earlier] = -np.inf
        found = block.argmax(axis=1)
        cosines[start:end], nearest[start:end] = block[np.arange(len(found)), found], order[found]
    unordered = np.argsort(order)
    return cosines[unordered], nearest[unordered], to_centroid


def prune(inputs: PruneInputs) -> GroupScores:
    """Drop first the images that resemble another of their cluster most; `n_clusters` clusters."""
    units = UnitRows(inputs.source_features)
    clusters = kmeans_clusters(units, inputs.n_clusters, int(inputs.generator.integers(2**31 - 1)))
    cosines, to_centroid = np.empty(len(clusters)), np.empty(len(clusters))
    nearest = np.empty(len(clusters), dtype=np.int64)
    for members in images_by_class(clusters, int(clusters.max()) + 1):
        cosines[members], found, to_centroid[members] = largest_cosines(units[members])
        nearest[members] = members[found]
    reasons = _reasons(cosines, nearest, inputs.source_ids)
    return GroupScores(-cosines, -to_centroid, level="image", drawn=True, meaning=_MEANING, reasons=reasons)


def _reasons(cosines: NDArray[np.float64], nearest: NDArray[np.int64], ids: Sequence[str]) -> list[str]:
    """Say of each image which earlier one it resembles most."""
    return [
        "first of its cluster" if other == image else f"cosine {cosine:.4f} to {ids[other]}"
        for image, (cosine, other) in enumerate(zip(cosines.tolist(), nearest.tolist(), strict=True))
    ]
