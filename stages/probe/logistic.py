"""Multinomial logistic regression with an L2 penalty, fitted to convergence on min-max scaled features.

The head of arXiv 2302.02334 (ICML 2023). With z the scaled features, it minimises

    1/2 sum_k ||w_k||^2 + c sum_i -log softmax(W z_i + b)[y_i]

and leaves the intercepts b unpenalised; two classes share one weight vector (the binomial form), as in scikit-learn. The
optimum is unique, and it is reached by `stages.probe.softmax`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from stages.probe import linear
from stages.probe.heads import NOT_CONVERGED, Fitted, Head, few_examples_expected
from stages.probe.rows import Held, Rows, Scaling, Streamed, extent
from stages.probe.softmax import Optimum, minimise
from stages.probe.validation import choose

Floats = NDArray[np.float64]
_DTYPES = [np.float64, np.float32]  # products are taken in the precision that comes, until it is too coarse
_BLOCK_ELEMENTS = 2**20
_SAMPLE_TOLERANCE = 1e-5  # of the optimum on sampled rows, which is further from that on all of them
CURVE_TOLERANCE = 1e-6  # nats, for draws of up to the next number of rows; it grows with the rows to five times as much
_CHEAP_ROWS = 2000


class LogisticProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """L2-regularised multinomial logistic regression, a scikit-learn classifier.

    Args:
        c: inverse strength of the penalty, against the *sum* of the losses; > 0.
        scale: map every column to [0, 1] by its minimum and maximum over the data given to `fit`, and over nothing
            else. Columns constant there become 0 everywhere. New data may fall outside [0, 1]; it is not clipped.
        tol: the fit has converged when the objective, as a mean over the rows, is within this of its minimum, in nats,
            as half the squared Newton decrement estimates it. Below 1e-9 all products are float64.
        max_iter: passes over the data at most.

    Attributes:
        classes_: [k] labels in sorted order.
        coef_, intercept_: [k, d] and [k] ([1, d] and [1] for two classes) on the features as given to `fit`.
        n_iter_: passes taken.
        loss_, distance_: the objective, as a mean over the rows, and the estimate that `tol` bounds, where the fit ended.
        converged_: False where the fit stopped at `max_iter`, or where rounding hid the rest; no warning is raised.
    """

    def __init__(self, c: float = 1.0, scale: bool = True, tol: float = 1e-6, max_iter: int = 2000) -> None:
        self.c = c
        self.scale = scale
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on features [n, d] and labels [n] of any type; raises ValueError for one class alone or non-finite features."""
        features, labels = validate_data(self, X, y, dtype=_DTYPES)
        with few_examples_expected():
            check_classification_targets(labels)
        path = _Path(features, labels, len(features))
        return self.fit_rows(path.classes, path.rows(len(features)), *path.range_of(len(features)), path.origin)

    def fit_rows(
        self,
        classes: NDArray[Any],
        rows: Rows,
        low: Floats,
        high: Floats,
        mean: Floats,
        origin: Floats,
        start: LogisticProbe | None = None,
    ) -> Self:
        """Fit on rows seen from `origin`, of known minimum, maximum and mean [d], from another fit's optimum on.

        `start` must see its rows from the same origin, and know the same classes.
        """
        if len(classes) < 2:
            raise ValueError(f"all labels are of one class, {classes!r}; a classifier needs two")
        if not self.c > 0:
            raise ValueError(f"c is {self.c!r}, and has to be above 0")
        width = high - low
        varies = width > np.finfo(np.float32).tiny
        factor = np.divide(1.0, width if self.scale else 1.0, out=np.zeros_like(width), where=varies)
        optimum = minimise(
            rows,
            len(classes),
            Scaling(mean, factor),
            # Two classes with one weight vector w are two with +-w/2, whose penalty is half as large.
            self.c / 2 if len(classes) == 2 else self.c,
            tol=self.tol,
            max_passes=self.max_iter,
            start=None if start is None else (start._weights, start._intercepts),
        )
        return self._keep(classes, optimum, origin)

    def fit_streamed(
        self, features: NDArray[Any], labels: NDArray[Any], sample_rows: int = 2**16, start: LogisticProbe | None = None
    ) -> Self:
        """Fit on features [n, d] that need not fit into memory, for instance a memory map, reading them block by block.

        The first pass takes ranges and means. The optimum of every (n / sample_rows)-th row, held in memory, is where the
        passes over all rows begin, unless `start` is a fit to begin from; they go on until `tol`, as in `fit`. Beside
        `sample_rows` rows twice and the labels, no more than a block is held. At a million rows the estimate that `tol` bounds
        was measured to be low by a factor of twenty.

        Raises:
            ValueError: one class alone, or features that are not finite.
        """
        low, high, mean = extent(features)
        if not np.isfinite(mean).all():
            raise ValueError("the features contain NaN or infinity")
        classes, codes = np.unique(labels, return_inverse=True)
        chosen = np.arange(0, len(labels), max(len(labels) // sample_rows, 1))
        chosen = np.union1d(chosen, np.unique(codes, return_index=True)[1])  # so that no class is missing, however rare
        streamed = Streamed(features, codes, mean)
        if start is None:
            sample = Held(streamed.picked(chosen), codes[chosen])
            start = LogisticProbe(self.c, self.scale, max(self.tol, _SAMPLE_TOLERANCE), self.max_iter)
            start.fit_rows(classes, sample, low - mean, high - mean, sample.features.mean(axis=0, dtype=np.float64), mean)
        return self.fit_rows(classes, streamed, low - mean, high - mean, np.zeros_like(mean), mean, start)

    def _keep(self, classes: NDArray[Any], optimum: Optimum, origin: Floats) -> Self:
        self._weights, self._intercepts, self._origin = optimum.weights, optimum.intercepts, origin
        self.classes_ = classes
        self.n_features_in_ = optimum.weights.shape[1]
        self.n_iter_, self.converged_ = optimum.passes, optimum.converged
        self.loss_, self.distance_ = optimum.loss, optimum.distance
        weights, intercepts = optimum.weights, optimum.intercepts - optimum.weights @ origin
        if len(classes) == 2:
            weights, intercepts = weights[1:] - weights[:1], intercepts[1:] - intercepts[:1]
        self.coef_: Floats = weights
        self.intercept_: Floats = intercepts
        return self

    def seen_from(self, origin: Floats) -> tuple[Floats, Floats]:
        """Return weights [k, d] and intercepts [k] of the logits of features less `origin` [d]."""
        check_is_fitted(self, "coef_")
        return self._weights, self._intercepts + self._weights @ (origin - self._origin)

    def _logits(self, X: ArrayLike) -> Floats:
        check_is_fitted(self, "coef_")
        features = validate_data(self, X, dtype=_DTYPES, reset=False)
        return linear.logits(features, self._origin, self._weights, self._intercepts)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return logits [n, k], or [n] for two classes (of the second)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable labels [n]."""
        logits = self._logits(X)
        return cast("NDArray[Any]", self.classes_[logits.argmax(axis=1)])

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Return log-probabilities [n, k], columns in the order of `classes_`, finite however sure the model is."""
        return linear.log_softmax(self._logits(X))

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return class probabilities [n, k], columns in the order of `classes_`."""
        return cast("Floats", np.exp(self.predict_log_proba(X)))


class _Path:
    """The first m rows of features for growing m: one shifted copy, and ranges and means that grow along."""

    def __init__(self, features: NDArray[Any], labels: NDArray[Any], first: int) -> None:
        self.classes, self.codes = np.unique(labels, return_inverse=True)
        self.shifted = np.empty(features.shape, np.float32 if features.dtype.itemsize <= 4 else np.float64)
        origin = features[:first].mean(axis=0, dtype=np.float64).astype(self.shifted.dtype)
        self.origin = origin.astype(np.float64)
        step = max(_BLOCK_ELEMENTS // features.shape[1], 1)
        for start in range(0, len(features), step):
            np.subtract(
                features[start : start + step], self.origin, out=self.shifted[start : start + step], casting="same_kind"
            )
        self._seen, self._sum = 0, np.zeros(features.shape[1])
        self._low, self._high = np.full(features.shape[1], np.inf), np.full(features.shape[1], -np.inf)

    def rows(self, m: int) -> Held:
        """Return the first m rows."""
        return Held(self.shifted[:m], self.codes[:m])

    def range_of(self, m: int) -> tuple[Floats, Floats, Floats]:
        """Return minimum, maximum and mean [d] of the first m rows, m no smaller than in the last call."""
        new = self.shifted[self._seen : m]
        if len(new):
            self._low, self._high = np.minimum(self._low, new.min(axis=0)), np.maximum(self._high, new.max(axis=0))
            self._sum = self._sum + new.sum(axis=0, dtype=np.float64)
            self._seen = m
        return self._low, self._high, self._sum / m


def along(
    features: NDArray[Any], labels: NDArray[Any], sizes: Sequence[int], classes: NDArray[Any], c: float | Sequence[float]
) -> Iterator[Fitted]:
    """Yield the fit on the first m rows for each m of `sizes`, each one from the optimum of the one before.

    The first draw holds every class. A sequence of c is a grid to choose from by validation inside the draw
    (`stages.probe.validation`).
    """
    if not sizes:
        return
    path = _Path(features, labels, sizes[0])
    before: LogisticProbe | None = None
    for m in sizes:
        held, measured = path.rows(m), path.range_of(m)
        chosen, warning = (c, None) if isinstance(c, (float, int)) else choose(_fit_grid, held.features, labels[:m], c)
        probe = LogisticProbe(chosen, tol=CURVE_TOLERANCE * min(max(m / _CHEAP_ROWS, 1), 5))
        before = probe.fit_rows(path.classes, held, *measured, path.origin, before)
        yield Fitted(probe, chosen, warning if probe.converged_ else NOT_CONVERGED)


def _fit_grid(features: NDArray[Any], labels: NDArray[Any], grid: Sequence[float]) -> Iterator[LogisticProbe]:
    """Yield the fits of a grid of c, from the strongest penalty on, each one from the optimum of the one before."""
    path = _Path(features, labels, len(features))
    before: LogisticProbe | None = None
    for c in grid:
        probe = LogisticProbe(c, tol=CURVE_TOLERANCE)
        before = probe.fit_rows(path.classes, path.rows(len(features)), *path.range_of(len(features)), path.origin, before)
        yield before


HEAD = Head(lambda c: LogisticProbe(c, tol=CURVE_TOLERANCE), constant="c", nested=along)
