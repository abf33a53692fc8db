"""Rows of features as the logistic solver reads them: in blocks, with their class codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.mapped import Release

Floats = NDArray[np.float64]
_SCATTERED = 256  # rows picked between two releases: the system may map two megabytes around each


class Rows(Protocol):
    """Rows [n, d] seen from a common origin, with their class codes."""

    @property
    def codes(self) -> NDArray[np.int64]:
        """Return the class code of every row [n]."""
        ...

    @property
    def n_features(self) -> int:
        """Return d."""
        ...

    def block(self, rows: slice) -> NDArray[Any]:
        """Return consecutive rows [b, d], float32 or float64."""
        ...

    def picked(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows with these numbers, ascending, perhaps some of them twice."""
        ...


@dataclass(frozen=True)
class Held:
    """Rows held in memory."""

    features: NDArray[Any]
    codes: NDArray[np.int64]

    @property
    def n_features(self) -> int:
        """Return d."""
        return int(self.features.shape[1])

    def block(self, rows: slice) -> NDArray[Any]:
        """Return consecutive rows."""
        return self.features[rows]

    def picked(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows with these numbers."""
        return self.features[rows]


@dataclass(frozen=True)
class Scaling:
    """How rows x become z = (x - mean) * factor; factor is 0 for a column to leave out."""

    mean: Floats
    factor: Floats


class Streamed:
    """Rows read block by block from an array that need not fit into memory, for instance a memory map.

    Args:
        features: [n, d].
        codes: [n].
        origin: [d], subtracted from every row.
    """

    def __init__(self, features: NDArray[Any], codes: NDArray[np.int64], origin: Floats) -> None:
        self._features, self._codes, self._origin = features, codes, origin
        self._dtype = np.float32 if features.dtype.itemsize <= 4 else np.float64
        self._release = Release(features)

    @property
    def codes(self) -> NDArray[np.int64]:
        """Return the class code of every row [n]."""
        return self._codes

    @property
    def n_features(self) -> int:
        """Return d."""
        return int(self._features.shape[1])

    def block(self, rows: slice) -> NDArray[Any]:
        """Return consecutive rows."""
        found = self._seen(self._features[rows])
        self._release.after(len(found))
        return found

    def picked(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows with these numbers."""
        found = np.empty((len(rows), self.n_features), self._dtype)
        for start in range(0, len(rows), _SCATTERED):
            chunk = slice(start, start + _SCATTERED)
            found[chunk] = self._seen(self._features[rows[chunk]])
            self._release.now()
        return found

    def _seen(self, rows: NDArray[Any]) -> NDArray[Any]:
        shifted = np.empty(rows.shape, self._dtype)
        np.subtract(rows, self._origin, out=shifted, casting="same_kind")
        return shifted


def extent(features: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return minimum, maximum and mean [d] of rows [n, d], in one pass over blocks; NaN and infinity show in them."""
    low, high = np.full(features.shape[1], np.inf), np.full(features.shape[1], -np.inf)
    total, release = np.zeros(features.shape[1]), Release(features)
    step = max(2**18 // features.shape[1], 1)
    for start in range(0, len(features), step):
        block = features[start : start + step]
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        total += block.sum(axis=0, dtype=np.float64)
        release.after(len(block))
    return low, high, total / len(features)
