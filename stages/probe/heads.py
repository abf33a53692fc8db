"""What a classifier head is to the learning curves, and the registry of heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from numpy.typing import NDArray

from stages.probe.validation import choose
from stages.registry import Registry

NOT_CONVERGED = "did not converge"


@contextmanager
def few_examples_expected() -> Iterator[None]:
    """Silence scikit-learn's suspicion of labels with few examples a class, or one: here they are the point."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%", category=UserWarning)
        warnings.filterwarnings("ignore", message="Only one sample available", category=UserWarning)
        yield


class Classifier(Protocol):
    """The part of a scikit-learn classifier that the curves use; the prediction is the class of highest log-probability."""

    classes_: NDArray[Any]

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Fit on features [n, d] and labels [n]; a function of them alone, without random state."""
        ...

    def predict_log_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return log-probabilities [n, k], columns in the order of `classes_`."""
        ...


class Fitted(NamedTuple):
    """A classifier fitted on a draw, its regularisation constant where it has one, and what the reader should know of it."""

    classifier: Classifier
    constant: float | None
    warning: str | None


Nested = Callable[[NDArray[Any], NDArray[Any], Sequence[int], NDArray[Any], float | Sequence[float]], Iterator[Fitted]]


@dataclass(frozen=True)
class Head:
    """One way to classify frozen features.

    Args:
        build: makes an unfitted classifier; its argument is the regularisation constant c, which a head without a
            penalty ignores.
        constant: the fitted classifier's attribute that holds its regularisation constant (column `alpha_or_c`).
        incremental: the classifier has `partial_fit(X, y, classes=...)` that equals one fit on everything seen.
        nested: a faster way to the fits that `along` describes.
        beyond_classes: rows beyond the number of classes without which the head is not defined; smaller draws are left out.
    """

    build: Callable[[float], Any]
    constant: str | None = None
    incremental: bool = False
    nested: Nested | None = None
    beyond_classes: int = 0

    def along(
        self,
        features: NDArray[Any],
        labels: NDArray[Any],
        sizes: Sequence[int],
        classes: NDArray[Any],
        c: float | Sequence[float],
    ) -> Iterator[Fitted]:
        """Yield the fit on the first m rows, for each m of the ascending `sizes`.

        A classifier that was yielded is only good until the next one is asked for: fits may grow out of each other.

        Args:
            features: [n, d], rows in the order of the draw.
            labels: [n].
            sizes: ascending numbers of rows, none above n.
            classes: [k] all labels, sorted.
            c: handed to `build`; of a sequence, the one that validation inside the draw chooses.
        """
        if self.nested is not None:
            yield from self.nested(features, labels, sizes, classes, c)
        elif self.incremental:
            classifier, start = self.build(_middle(c)), 0
            for size in sizes:
                yield self._fitted(classifier.partial_fit(features[start:size], labels[start:size], classes=classes), None)
                start = size
        else:
            for size in sizes:
                chosen, warning = _middle(c), None
                if self.constant is not None and not isinstance(c, (int, float)):
                    chosen, warning = choose(self._grid, features[:size], labels[:size], c)
                with few_examples_expected():
                    fitted = self.build(chosen).fit(features[:size], labels[:size])
                yield self._fitted(fitted, warning)

    def _grid(self, features: NDArray[Any], labels: NDArray[Any], grid: Sequence[float]) -> Iterator[Classifier]:
        for c in grid:
            with few_examples_expected():
                fitted = self.build(c).fit(features, labels)
            yield fitted

    def _fitted(self, classifier: Classifier, warning: str | None) -> Fitted:
        constant = None if self.constant is None else float(getattr(classifier, self.constant))
        return Fitted(classifier, constant, warning if getattr(classifier, "converged_", True) else NOT_CONVERGED)


def _middle(c: float | Sequence[float]) -> float:
    """Return c, or the middle of a grid, for heads that have no constant to choose."""
    return float(c) if isinstance(c, (int, float)) else sorted(c)[(len(c) - 1) // 2]


HEADS: Registry[Head] = Registry(
    "head",
    {
        "naive_bayes": "stages.probe.naive_bayes:HEAD",
        "logistic": "stages.probe.logistic:HEAD",
        "gaussian_nb": "stages.probe.references:GAUSSIAN_NB",
        "lda": "stages.probe.references:LDA",
    },
)
