"""Multinomial logistic regression with an L2 penalty, fitted to convergence on min-max scaled features.

The head of arXiv 2302.02334 (ICML 2023). With z the scaled features, it minimises

    1/2 sum_k ||w_k||^2 + c sum_i -log softmax(W z_i + b)[y_i]

and leaves the intercepts b unpenalised; two classes share one weight vector (the binomial form), as in scikit-learn.
"""

from __future__ import annotations

import warnings
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from stages.probe.heads import Head, few_examples_expected

_DTYPES = [np.float64, np.float32]  # taken as they come; the scaled copy is float64


class LogisticProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """L2-regularised multinomial logistic regression by L-BFGS, a scikit-learn classifier.

    Args:
        c: inverse strength of the penalty, against the *sum* of the losses; > 0.
        scale: map every column to [0, 1] by its minimum and maximum over the data given to `fit`, and over nothing
            else. Columns constant there become 0 everywhere. New data may fall outside [0, 1]; it is not clipped.
        tol: the fit has converged when no component of the gradient of the mean loss exceeds this.
        max_iter: L-BFGS iterations at most.

    Attributes:
        classes_: [k] labels in sorted order.
        coef_, intercept_: [k, d] and [k] ([1, d] and [1] for two classes) on the features as given to `fit`.
        n_iter_: L-BFGS iterations taken.
        converged_: False where the fit stopped at `max_iter` or failed in its line search; no warning is raised.
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
        low, high = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
        varies = high > low
        width = np.where(varies, high - low, 1.0) if self.scale else np.ones_like(low)
        self._factor = varies / width  # (d,)
        # The intercept is free, so any shift gives the same optimum; the mean's gives L-BFGS the fewest iterations.
        self._shift = features.mean(axis=0, dtype=np.float64)  # (d,)
        model = LogisticRegression(C=self.c, tol=self.tol, max_iter=self.max_iter)
        scaled = self._scaled(features)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with few_examples_expected():
                model.fit(scaled, labels)
        self.converged_ = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        for warning in caught:
            if not issubclass(warning.category, ConvergenceWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        self._model = model
        self.classes_: NDArray[Any] = model.classes_
        self.n_iter_ = int(model.n_iter_.max())
        self.coef_: NDArray[np.float64] = model.coef_ * self._factor
        self.intercept_: NDArray[np.float64] = model.intercept_ - self.coef_ @ self._shift
        return self

    def _scaled(self, features: NDArray[Any]) -> NDArray[np.float64]:
        scaled = features - self._shift  # float64, the one copy
        scaled *= self._factor
        return cast("NDArray[np.float64]", scaled)

    def _checked(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self._scaled(validate_data(self, X, dtype=_DTYPES, reset=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return logits [n, k], or [n] for two classes (of the second)."""
        scaled = self._checked(X)
        return cast("NDArray[np.float64]", self._model.decision_function(scaled))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable labels [n]."""
        scaled = self._checked(X)
        return cast("NDArray[Any]", self._model.predict(scaled))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return class probabilities [n, k], columns in the order of `classes_`."""
        scaled = self._checked(X)
        return cast("NDArray[np.float64]", self._model.predict_proba(scaled))

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return log-probabilities [n, k], finite however sure the model is."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.column_stack([np.zeros_like(logits), logits])
        logits = logits - logits.max(axis=1, keepdims=True)
        return cast("NDArray[np.float64]", logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


HEAD = Head(lambda c: LogisticProbe(c), constant="c")
