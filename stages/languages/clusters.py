"""Languages grouped by the combined distance."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from stages.languages.combined import CombinedDistance
from stages.languages.design import Pairs, zero_shot

WEIGHTS = {"task": pl.String, "term": pl.String, "weight": pl.Float64}
DISTANCES = {"task": pl.String, "source": pl.String, "target": pl.String, "distance": pl.Float64}
CLUSTERS = {
    "task": pl.String, "language": pl.String, "cluster": pl.Int64, "place": pl.Int64, "medoid": pl.Boolean,
    "silhouette": pl.Float64,
}  # fmt: skip


def combined_distances(pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `distance_weights` and `language_distances` of every task whose table has a distance or an overlap."""
    weights, distances = [pl.DataFrame(schema=WEIGHTS)], [pl.DataFrame(schema=DISTANCES)]
    for (task,), rows in zero_shot(pairs).group_by("task", maintain_order=True):
        every = Pairs.of(rows)
        fitted = CombinedDistance.fit(every)
        if not len(fitted.columns):
            continue
        weights.append(fitted.table(every.names).select(pl.lit(task).alias("task"), "term", "weight"))
        found = fitted(every)
        distances.append(
            rows.select("task", "source", "target").with_columns(distance=pl.Series(found - found.min(), dtype=pl.Float64))
        )
    return pl.concat(weights).sort("task", "term"), pl.concat(distances).sort("task", "source", "target")


def square(distances: pl.DataFrame) -> tuple[list[str], NDArray[np.float64]]:
    """Return the languages of one task's distances, sorted, and their symmetric matrix [n, n].

    Both directions are averaged; pairs of which neither was given lie at the mean distance. Only languages on both sides have a
    place in the matrix where there are any three such; else all have.
    """
    sources, targets = set(distances["source"]), set(distances["target"])
    names = sorted(sources & targets) if len(sources & targets) >= 3 else sorted(sources | targets)
    place = {name: i for i, name in enumerate(names)}
    total, count = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for source, target, distance in distances.select("source", "target", "distance").iter_rows():
        if source in place and target in place:
            total[place[source], place[target]] += distance
            count[place[source], place[target]] += 1
    total, count = total + total.T, count + count.T
    middle = float(distances["distance"].to_numpy().mean()) if len(distances) else 0.0
    matrix = np.where(count > 0, total / np.maximum(count, 1), middle)
    np.fill_diagonal(matrix, 0.0)
    return names, matrix


def silhouettes(matrix: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each language's silhouette [n] (Rousseeuw 1987), 0 for one that is alone in its cluster."""
    names = np.unique(labels)
    member = (labels[:, None] == names[None, :]).astype(np.float64)
    sums, counts = matrix @ member, member.sum(axis=0)
    own = np.searchsorted(names, labels)
    rows = np.arange(len(labels))
    inside = sums[rows, own] / np.maximum(counts[own] - 1, 1)
    across = sums / counts
    across[rows, own] = np.inf
    outside = across.min(axis=1)
    widest = np.maximum(np.maximum(inside, outside), 1e-300)
    return np.where((counts[own] == 1) | ~np.isfinite(outside), 0.0, (outside - inside) / widest)


def clusters(distances: pl.DataFrame) -> pl.DataFrame:
    """Return `language_clusters` of `language_distances`: average linkage, cut where the mean silhouette is greatest."""
    found = [pl.DataFrame(schema=CLUSTERS)]
    for (task,), rows in distances.group_by("task", maintain_order=True):
        names, matrix = square(rows)
        if len(names) < 3:
            continue
        tree = optimal_leaf_ordering(linkage(squareform(matrix, checks=False), "average"), squareform(matrix, checks=False))
        cuts = [fcluster(tree, k, "maxclust").astype(np.int64) for k in range(2, max(3, len(names) // 2 + 1))]
        labels = max(cuts, key=lambda cut: float(silhouettes(matrix, cut).mean()))
        place = np.empty(len(names), dtype=np.int64)
        place[leaves_list(tree)] = np.arange(1, len(names) + 1)
        first = {label: place[labels == label].min() for label in np.unique(labels)}
        number = {label: i for i, label in enumerate(sorted(first, key=lambda label: first[label]), start=1)}
        within = np.where(labels[:, None] == labels[None, :], matrix, 0.0).sum(axis=1)
        medoids = {min(np.flatnonzero(labels == label), key=lambda i: (within[i], names[i])) for label in np.unique(labels)}
        columns = {
            "task": [str(task)] * len(names),
            "language": names,
            "cluster": [number[label] for label in labels],
            "place": place,
            "medoid": [i in medoids for i in range(len(names))],
            "silhouette": silhouettes(matrix, labels),
        }
        found.append(pl.DataFrame(columns, schema=CLUSTERS))
    return pl.concat(found).sort("task", "language")
