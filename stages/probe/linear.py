"""Linear classifiers on many rows: logits in blocks, and log-probabilities that stay finite."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK_ELEMENTS = 2**18  # float64 values held at once


@runtime_checkable
class Linear(Protocol):
    """A classifier whose log-probabilities are the log-softmax of linear functions of the features."""

    classes_: NDArray[Any]

    def seen_from(self, origin: Floats) -> tuple[Floats, Floats]:
        """Return weights [k, d] and intercepts [k] of the logits of features less `origin` [d], up to a shift of all k."""
        ...


def logits(features: NDArray[Any], origin: Floats, weights: Floats, intercepts: Floats) -> Floats:
    """Return (features - origin) weights' + intercepts [n, k], float64; a large origin costs no accuracy."""
    found = np.empty((len(features), len(weights)))
    step = max(_BLOCK_ELEMENTS // features.shape[1], 1)
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        np.matmul(features[rows] - origin, weights.T, out=found[rows])
    found += intercepts
    return found


def log_softmax(scores: Floats) -> Floats:
    """Return the log-softmax of scores [..., k], in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores
