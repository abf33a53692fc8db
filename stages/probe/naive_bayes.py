"""Gaussian naive Bayes with one diagonal variance shared by all classes: a linear rule, fitted in one pass.

The head of arXiv 2302.02334 (ICML 2023): x | class k is Gaussian with mean mu_k and variance v in every class, where

    v = sum_k pi_k var_k + epsilon        (prior-weighted within-class variance, maximum likelihood)
    log p(k | x) = log pi_k + x . mu_k / v - mu_k . mu_k / (2 v) + terms shared by all k.
"""

from __future__ import annotations

from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from stages.mapped import Release
from stages.probe import linear
from stages.probe.heads import Head, few_examples_expected

_BLOCK_ELEMENTS = 2**18  # float64 values held at once: two MiB, which a second-level cache about holds
_DTYPES = [np.float64, np.float32]  # taken as they come, so that a memory map is never copied whole; sums are float64


class SharedVarianceGaussianNB(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gaussian naive Bayes whose classes share one variance per dimension, a scikit-learn classifier.

    `partial_fit` over any split of the rows gives the same model as `fit` on all of them, to rounding: counts, means and
    scatter of the parts are merged by the update of Chan, Golub and LeVeque (1979), which subtracts no large numbers.

    Args:
        epsilon: added to every variance, in squared feature units; > 0 keeps constant columns harmless.

    Attributes:
        classes_: [k] labels in sorted order.
        class_count_: [k] summed sample weights.
        class_prior_: [k] shares of the summed weights.
        theta_: [k, d] class means, float64; zero for a class without weight, which is then never predicted.
        var_: [d] shared variance, `epsilon` included, float64.
    """

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on features [n, d], labels [n] of any type and weights [n] >= 0, forgetting what was fitted before."""
        features, labels = validate_data(self, X, y, dtype=_DTYPES, ensure_all_finite=False)
        with few_examples_expected():
            check_classification_targets(labels)
        self._start(np.unique(labels), features)
        return self._absorb(features, labels, sample_weight)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Add rows to the model; the first call names all `classes` that will ever come.

        Raises:
            ValueError: the first call names no classes, a later one names others, or a label is not among them.
        """
        first = not hasattr(self, "classes_")
        features, labels = validate_data(self, X, y, dtype=_DTYPES, ensure_all_finite=False, reset=first)
        with few_examples_expected():
            check_classification_targets(labels)
        if first:
            if classes is None:
                raise ValueError("the first call of partial_fit must name all classes")
            self._start(np.unique(np.asarray(classes)), features)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(np.asarray(classes))):
            raise ValueError(f"classes {classes!r} differ from those of the first call, {self.classes_!r}")
        return self._absorb(features, labels, sample_weight)

    def _start(self, classes: NDArray[Any], features: NDArray[Any]) -> None:
        self.classes_ = classes
        # A row of the data as origin: a large common offset is gone before anything is summed, and a constant
        # column is exactly 0.
        self._origin = features[0].astype(np.float64)  # (d,)
        self.class_count_ = np.zeros(len(classes))  # (k,)
        self._means = np.zeros((len(classes), features.shape[1]))  # (k, d), from the origin
        self._scatter = np.zeros(features.shape[1])  # (d,) weighted squares around the class means, all classes

    def _absorb(self, features: NDArray[Any], labels: NDArray[Any], sample_weight: ArrayLike | None) -> Self:
        codes = np.searchsorted(self.classes_, labels)
        if (codes == len(self.classes_)).any() or (self.classes_[codes] != labels).any():
            unknown = np.setdiff1d(labels, self.classes_)
            raise ValueError(f"labels {unknown!r} are not among the classes {self.classes_!r}")
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, features, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True
            )
        before, release = (self.class_count_, self._means, self._scatter), Release(features)
        step = max(4 * len(self.classes_), _BLOCK_ELEMENTS // features.shape[1], 1)
        block = np.empty((min(step, len(features)), features.shape[1]))
        try:
            for start in range(0, len(features), step):
                rows = slice(start, min(start + step, len(features)))
                self._merge(features[rows], codes[rows], None if weights is None else weights[rows], block)
                release.after(rows.stop - rows.start)
        except ValueError:
            self.class_count_, self._means, self._scatter = before
            raise
        return self._solve()

    def _merge(
        self, rows: NDArray[Any], codes: NDArray[np.int64], weights: NDArray[np.float64] | None, block: NDArray[np.float64]
    ) -> None:
        """Add rows [b, d] to counts, means and scatter; `block` [>= b, d] is room to work in."""
        order = np.argsort(codes, kind="stable")  # classes become runs of rows, each summed while the cache holds it
        block = block[: len(rows)]
        narrow = rows.dtype == np.float32
        with np.errstate(invalid="ignore", over="ignore"):
            if narrow:  # float64 sums lose nothing of float32 values, and a plain copy is the faster cast
                block[:] = rows[order]
            else:
                np.subtract(rows[order], self._origin, out=block)
        present, starts, members = np.unique(codes[order], return_index=True, return_counts=True)
        counts = members.astype(np.float64)
        if weights is not None:
            weights = weights[order]
            counts = np.add.reduceat(weights, starts)
        means = np.empty((len(present), block.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):
            for mean, start, member, count in zip(means, starts.tolist(), members.tolist(), counts.tolist(), strict=True):
                run = block[start : start + member]
                if weights is None:
                    np.add.reduce(run, axis=0, out=mean)
                else:
                    np.matmul(weights[start : start + member], run, out=mean)
                mean /= count if count > 0 else 1.0
                run -= mean
        if not np.isfinite(means).all():  # looked for here, because a look of its own would read all rows a second time
            assert_all_finite(rows, input_name="X")
            raise ValueError("the sums of the features X are infinite")
        if narrow:
            means -= self._origin
        squares = ("nd,nd->d", block, block) if weights is None else ("n,nd,nd->d", weights, block, block)
        scatter = np.einsum(*squares)

        known = self.class_count_[present]
        total = known + counts
        share = np.divide(counts, total, out=np.zeros_like(total), where=total > 0)  # of the new rows
        apart = means - self._means[present]
        self._scatter = self._scatter + scatter + (known * share) @ apart**2
        self._means, self.class_count_ = self._means.copy(), self.class_count_.copy()
        self._means[present] += share[:, None] * apart
        self.class_count_[present] = total

    def _solve(self) -> Self:
        weight = self.class_count_.sum()
        if not weight > 0:
            raise ValueError("all sample weights seen so far are zero")
        self.class_prior_ = self.class_count_ / weight
        self.theta_ = np.where(self.class_count_[:, None] > 0, self._means + self._origin, 0.0)
        self.var_ = self._scatter / weight + self.epsilon
        # Seen from the overall mean, the scores of the classes differ as little as they can.
        centre = self.class_prior_ @ self._means  # (d,)
        offset = self._means - centre  # (k, d)
        self._centre = centre + self._origin
        self._slopes = offset / self.var_  # (k, d)
        with np.errstate(divide="ignore"):  # a class without weight has log prior -inf, and so probability 0
            self._intercepts = np.log(self.class_prior_) - (self._slopes * offset).sum(axis=1) / 2  # (k,)
        return self

    def seen_from(self, origin: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights [k, d] and intercepts [k] of the logits of features less `origin` [d], up to a shift of all k."""
        check_is_fitted(self, "var_")
        return self._slopes, self._intercepts + self._slopes @ (origin - self._centre)

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return log pi_k + log p(x | k) up to a term shared by all classes, [n, k]."""
        check_is_fitted(self, "var_")
        features = validate_data(self, X, dtype=_DTYPES, reset=False)
        return linear.logits(features, self._centre, self._slopes, self._intercepts)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable labels [n]."""
        scores = self._scores(X)
        return cast("NDArray[Any]", self.classes_[scores.argmax(axis=1)])

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return log-probabilities [n, k], columns in the order of `classes_`; finite for every class seen in `fit`."""
        return linear.log_softmax(self._scores(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return class probabilities [n, k], columns in the order of `classes_`."""
        return cast("NDArray[np.float64]", np.exp(self.predict_log_proba(X)))


HEAD = Head(lambda c: SharedVarianceGaussianNB(), incremental=True)
