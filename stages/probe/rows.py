"""Rows of features as the logistic solver reads them: in blocks, with their class codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
