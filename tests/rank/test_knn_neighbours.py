"""The neighbours that kNN votes with, against all distances in float64, where float32 cannot tell them apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.rank import Statistics
from stages.rank.knn import SPARE, neighbours


def plain(rows: NDArray, k: int) -> NDArray:
    """Return the k nearest others of each row, from differences in float64."""
    distances = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def cases() -> dict[str, NDArray]:
    """Return rows of float32 by what is hard about them."""
    stream = np.random.default_rng(0)
    easy = stream.normal(size=(300, 40))
    return {
        "random": easy,
        "a large offset": easy + 1e3,
        "two far groups": easy * 1e-2 + np.repeat([[-1e3], [1e3]], 150, axis=0),
        "one far outlier": np.concatenate([easy[1:], 1e6 * easy[:1]]),
        "few rows": easy[: SPARE + 6],
        "wide": stream.normal(size=(60, 3000)),
    }


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_all_distances(case: str, k: int) -> None:
    rows = cases()[case].astype(np.float32)
    labels = np.arange(len(rows)) % 3
    np.testing.assert_array_equal(neighbours(Statistics(rows, labels), k), plain(rows, k))
    np.testing.assert_array_equal(neighbours(Statistics(rows.astype(np.float64), labels), k), plain(rows, k))


def test_some_rows_of_a_memory_map_are_as_good_as_a_copy() -> None:
    rows = cases()["random"].astype(np.float32)
    chosen = np.sort(np.random.default_rng(1).permutation(300)[:100])
    labels = np.arange(100) % 3
    np.testing.assert_array_equal(neighbours(Statistics(rows, labels, rows=chosen), 5), plain(rows[chosen], 5))
