"""One distance out of many: non-negative weights fitted to the transfer scores (after arXiv 2411.08785)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import nnls

from stages.languages.design import Pairs, Predictor
from stages.languages.ridge import Scale

SIMILAR = ("_overlap", "_match")  # columns that grow as languages come nearer


def measures(names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which columns measure how near two languages are, and the sign that makes each of them a distance."""
    chosen = [i for i, name in enumerate(names) if name.endswith(("_distance", *SIMILAR))]
    signs = [-1.0 if names[i].endswith(SIMILAR) else 1.0 for i in chosen]
    return np.array(chosen, dtype=np.int64), np.array(signs)


@dataclass(frozen=True)
class CombinedDistance:
    """Weights [m] of standardised measures; the distance is their weighted sum, in units of the score that it costs."""

    columns: NDArray[np.int64]
    signs: NDArray[np.float64]
    scale: Scale
    weights: NDArray[np.float64]
    centre: float

    @classmethod
    def fit(cls, seen: Pairs) -> CombinedDistance:
        """Minimise |y - mean y + D w| over w >= 0, with D [n, m] the standardised measures (Lawson and Hanson's NNLS)."""
        columns, signs = measures(seen.names)
        raw = seen.features[:, columns] * signs
        scale = Scale.of(raw)
        centre = float(seen.scores.mean())
        weights = nnls(scale(raw), centre - seen.scores)[0] if len(columns) else np.empty(0)
        return cls(columns, signs, scale, weights, centre)

    def __call__(self, pairs: Pairs) -> NDArray[np.float64]:
        """Return the distances of pairs [n], 0 for a pair at the mean of all measures; unknown measures count as the mean."""
        return np.asarray(self.scale(pairs.features[:, self.columns] * self.signs) @ self.weights)

    def table(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Return term, weight: each measure's, sorted by name."""
        terms = [names[i] for i in self.columns]
        return pl.DataFrame({"term": terms, "weight": self.weights}, schema={"term": pl.String, "weight": pl.Float64}).sort(
            "term"
        )


def combined_distance(seen: Pairs) -> Predictor:
    """Predict the mean score less the combined distance."""
    fitted = CombinedDistance.fit(seen)
    return lambda pairs: fitted.centre - fitted(pairs)
