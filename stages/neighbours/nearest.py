"""Exact nearest rows of one vector by cosine distance, a block of the memory map at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.mapped import Release

BLOCK = 8192  # rows held in memory at once
DIGITS = 9  # of a distance; what lies behind them is rounding, and would tell equals apart


def nearest(
    matrix: NDArray[Any], query: NDArray[Any], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k nearest rows and their cosine distances 1 - cos, nearest first, equals by row; fewer where there are fewer.

    Args:
        matrix: [n, d], usually a memory map, of which only blocks are in memory.
        query: [d].
        rows: the rows that may be found, ascending.
        k: how many.

    A vector of zeros has no direction: its distance from everything is 1.
    """
    direction = _unit(np.asarray(query, dtype=np.float64)[None])[0]
    found, distances = np.empty(0, dtype=np.int64), np.empty(0)
    release = Release(matrix)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        values = np.asarray(matrix[block], dtype=np.float64)
        found = np.concatenate([found, block])
        distances = np.concatenate([distances, np.round(1 - _unit(values) @ direction, DIGITS)])
        order = np.lexsort((found, distances))[:k]
        found, distances = found[order], distances[order]
        release.after(len(block))
    return found, np.clip(distances, 0, 2)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
