"""How good classifiers are on a test set: error, mean per-class error, log loss and calibration, many models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.probe.heads import Classifier
from stages.probe.linear import log_softmax

Floats = NDArray[np.float64]
# The logarithm of the smallest normal float64: a probability below it cannot be told from 0, which would cost infinity.
LOWEST_LOG_PROBABILITY = float(np.log(np.finfo(np.float64).tiny))
BINS = 15  # of confidence, equally wide, as in Guo et al. (2017), arXiv 1706.04599
_BLOCK_ROWS = 1024


class Measures(NamedTuple):
    """Of one classifier on a test set.

    Args:
        error: share of wrong predictions, 0 to 1.
        mean_per_class_error: mean over the classes of the test set, 0 to 1.
        log_loss: mean negative log-probability of the true class, nats, each example's at most 708.4.
        calibration_error: expected calibration error (Guo et al. 2017): over 15 equal bins of the confidence in the predicted
            class, the mean distance of confidence and accuracy, weighted by the examples in the bin; 0 to 1.
    """

    error: float
    mean_per_class_error: float
    log_loss: float
    calibration_error: float


class _Tally:
    """Sums over test examples for M models that know the same classes."""

    def __init__(self, classes: NDArray[Any], labels: NDArray[Any], models: int) -> None:
        self.classes, self.labels, self.models = classes, labels, models
        present, self._codes = np.unique(labels, return_inverse=True)
        column = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        self._column = np.where(classes[column] == labels, column, -1)  # -1: the model cannot know it
        self._wrong = np.zeros((len(present), models))
        self._loss = np.zeros(models)
        self._gap = np.zeros(models * BINS)  # confidence less correctness

    def add(self, rows: slice, log_probabilities: Floats) -> None:
        """Add consecutive examples, log-probabilities [b, M, k]."""
        column, count = self._column[rows], len(log_probabilities)
        top = log_probabilities.argmax(axis=2)  # (b, M)
        confidence = np.exp(np.take_along_axis(log_probabilities, top[:, :, None], axis=2)[:, :, 0])
        right = top == column[:, None]
        np.add.at(self._wrong, self._codes[rows], ~right)
        own = log_probabilities[np.arange(count), :, np.maximum(column, 0)]  # (b, M)
        own = np.where(column[:, None] >= 0, np.maximum(own, LOWEST_LOG_PROBABILITY), LOWEST_LOG_PROBABILITY)
        self._loss -= own.sum(axis=0)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1) + BINS * np.arange(self.models)
        self._gap += np.bincount(bins.ravel(), (confidence - right).ravel(), minlength=len(self._gap))

    def measures(self) -> list[Measures]:
        """Return the measures of every model."""
        total = len(self.labels)
        per_class = (self._wrong / np.bincount(self._codes)[:, None]).mean(axis=0)
        calibration = np.abs(self._gap.reshape(self.models, BINS)).sum(axis=1) / total
        columns = self._wrong.sum(axis=0) / total, per_class, self._loss / total, calibration
        return [Measures(*map(float, values)) for values in zip(*columns, strict=True)]


def measure(classifier: Classifier, features: NDArray[Any], labels: NDArray[Any]) -> Measures:
    """Return the measures of one classifier on features [t, d] and labels [t]; unknown labels are errors."""
    tally = _Tally(classifier.classes_, labels, 1)
    tally.add(slice(None), np.asarray(classifier.predict_log_proba(features), dtype=np.float64)[:, None, :])
    return tally.measures()[0]


def measure_linear(
    models: Sequence[tuple[Floats, Floats]], classes: NDArray[Any], origin: Floats, features: NDArray[Any], labels: NDArray[Any]
) -> list[Measures]:
    """Return the measures of linear models in one product over the test set.

    Args:
        models: weights [k, d] and intercepts [k] of the logits of features less `origin`.
        classes: [k], sorted.
        origin: [d].
        features: [t, d].
        labels: [t].
    """
    if not models:
        return []
    weights = np.concatenate([weights for weights, _ in models])  # (M k, d)
    intercepts = np.concatenate([intercepts for _, intercepts in models])
    tally = _Tally(classes, labels, len(models))
    for start in range(0, len(features), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        scores = (features[rows] - origin) @ weights.T
        scores += intercepts
        tally.add(rows, log_softmax(scores.reshape(len(scores), len(models), len(classes))))
    return tally.measures()
