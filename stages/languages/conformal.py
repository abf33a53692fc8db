"""Distribution-free intervals and sets, with a group of dependent scores (a target language) as the unit.

Hierarchical conformal prediction: Lee, Barber and Willett 2023; Dunn, Wasserman and Ramdas 2022.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def half_width(errors: NDArray[np.float64], groups: NDArray[np.int64], coverage: float) -> float | None:
    """Return the half-width that covers a random pair of a new group with probability `coverage`; None where too few groups.

    Of G groups each shares 1/(G+1) of the mass among its absolute errors [n]; the last share lies at infinity, for the new one.
    """
    names, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(errors, kind="stable")
    mass = np.cumsum(1.0 / counts[index][order]) / (len(names) + 1)
    reached = np.flatnonzero(mass >= coverage - 1e-12)
    return float(errors[order][reached[0]]) if len(reached) else None


def quantile(values: NDArray[np.float64], coverage: float) -> float:
    """Return the ceil(coverage (n + 1))-th smallest of exchangeable values [n], infinite where n is too small."""
    place = math.ceil(coverage * (len(values) + 1) - 1e-9)
    return float(np.sort(values)[place - 1]) if place <= len(values) else math.inf


def shortfalls(predicted: NDArray[np.float64], scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each target [targets] how far its truly best source was predicted below the source predicted best.

    Of equally good sources the one predicted highest counts.
    """
    _, index = np.unique(targets, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    top, best, reached = (np.full(size, -np.inf) for _ in range(3))
    np.maximum.at(top, index, predicted)
    np.maximum.at(best, index, scores)
    winners = scores == best[index]
    np.maximum.at(reached, index[winners], predicted[winners])
    return np.asarray(top - reached)
