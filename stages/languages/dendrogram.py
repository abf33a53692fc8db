"""One tree of the languages over all tasks: whose transfer is alike, and the order in which neighbours stand side by side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import polars as pl
from scipy.cluster.hierarchy import dendrogram, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from stages.languages.clusters import square

MOST = 120  # languages that a figure can show
LEAST = 3
SEGMENTS = {"x": pl.Float64, "y": pl.Float64, "x2": pl.Float64, "y2": pl.Float64}


@dataclass(frozen=True)
class Tree:
    """Languages in the order of the leaves, the segments of the drawing (x: distance, y: place of a leaf), what x measures."""

    order: list[str]
    segments: pl.DataFrame
    measure: str


def tree(distances: pl.DataFrame, pairs: pl.DataFrame) -> Tree | None:
    """Return the tree by average linkage of the combined distance, mean over tasks; None for under three languages or over 120.

    Args:
        distances: `language_distances`. Where there is none, the score lost against the best pair of the task stands for it.
        pairs: `language_pairs`.
    """
    measure = "combined distance, mean over tasks"
    if distances.is_empty():
        measure = "score below the best pair, mean over tasks"
        zero = pairs.filter((pl.col("n_shots") == 0) & (pl.col("source") != pl.col("target")))
        mean = zero.group_by("task", "source", "target").agg(pl.col("score").mean())
        distances = mean.with_columns(distance=pl.col("score").max().over("task") - pl.col("score"))
    single = distances.filter(~pl.col("source").str.contains(":|\\+"))
    mean = single.group_by("source", "target").agg(pl.col("distance").mean()).sort("source", "target")
    if mean.is_empty() or not LEAST <= len(set(mean["source"]) | set(mean["target"])) <= MOST:
        return None
    names, matrix = square(mean)
    if len(names) < LEAST:
        return None
    compact = squareform(matrix, checks=False)
    links = optimal_leaf_ordering(linkage(compact, "average"), compact)
    drawn = dendrogram(links, no_plot=True)
    # scipy puts leaf i at 5 + 10 i, and draws every join as three segments.
    joins = [
        [(float(x), (place - 5) / 10) for x, place in zip(heights, places, strict=True)]
        for heights, places in zip(drawn["dcoord"], drawn["icoord"], strict=True)
    ]
    rows = [(*start, *end) for join in joins for start, end in pairwise(join)]
    segments = pl.DataFrame(rows, schema=SEGMENTS, orient="row")
    return Tree([names[leaf] for leaf in drawn["leaves"]], segments.sort(pl.all()), measure)
