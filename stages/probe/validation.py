"""The penalty's strength by validation inside a draw: part of the draw's own rows is held out, and nothing else is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHARE = 5  # every fifth row of a class is held out; the one row of two to four


def held_out(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows [n] are held out: the last fifth of every class by row order, one of two to four, none of one."""
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(len(rows) // _SHARE, 1) if len(rows) > 1 else 0
        mask[rows[len(rows) - count :]] = True
    return mask


def choose(
    fit: Callable[[NDArray[Any], NDArray[Any], Sequence[float]], Iterable[Any]],
    features: NDArray[Any],
    labels: NDArray[Any],
    grid: Sequence[float],
) -> tuple[float, str | None]:
    """Return the c of the least log loss on held-out rows of the draw, and a warning or None.

    Args:
        fit: yields the classifier of each c of an ascending grid, fitted on the features and labels that it is given.
        features, labels: [m, d] and [m] of the draw.
        grid: values of c; among equals, the smallest (the strongest penalty) is taken.
    """
    ordered = sorted(set(grid))
    out = held_out(labels)
    if not out.any():
        middle = ordered[(len(ordered) - 1) // 2]
        return middle, f"one example a class leaves none to choose c by; {middle:g}, the middle of the grid, is taken"
    held, truth = features[out], labels[out]
    losses = [
        _log_loss(classifier.predict_log_proba(held), classifier.classes_, truth)
        for classifier in fit(features[~out], labels[~out], ordered)
    ]
    best = int(np.argmin(losses))
    edge = len(ordered) > 1 and best in (0, len(ordered) - 1)
    return ordered[best], f"c is at the end of its grid, {ordered[best]:g}" if edge else None


def _log_loss(log_probabilities: NDArray[Any], classes: NDArray[Any], labels: NDArray[Any]) -> float:
    return -float(log_probabilities[np.arange(len(labels)), np.searchsorted(classes, labels)].mean(dtype=np.float64))
