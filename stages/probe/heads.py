"""What a classifier head is to the learning curves, and the registry of heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from stages.registry import Registry


@contextmanager
def few_examples_expected() -> Iterator[None]:
    """Silence scikit-learn's suspicion that labels with few examples a class are a regression's: here they are the point."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%", category=UserWarning)
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


@dataclass(frozen=True)
class Head:
    """One way to classify frozen features.

    Args:
        build: makes an unfitted classifier; its argument is `probe.c` of params.yaml, which a head without a
            penalty ignores.
        constant: the fitted classifier's attribute that holds its regularisation constant (column `alpha_or_c`).
        incremental: the classifier has `partial_fit(X, y, classes=...)` that equals one fit on everything seen.
    """

    build: Callable[[float], Any]
    constant: str | None = None
    incremental: bool = False

    def along(
        self, features: NDArray[Any], labels: NDArray[Any], sizes: Sequence[int], classes: NDArray[Any], c: float
    ) -> Iterator[Classifier]:
        """Yield the classifier fitted on the first m rows, for each m of the ascending `sizes`.

        A classifier that was yielded is only good until the next one is asked for: fits may grow out of each other.

        Args:
            features: [n, d], rows in the order of the draw.
            labels: [n].
            sizes: ascending numbers of rows, none above n.
            classes: [k] all labels, sorted.
            c: handed to `build`.
        """
        if not self.incremental:
            for size in sizes:
                with few_examples_expected():
                    fitted = self.build(c).fit(features[:size], labels[:size])
                yield fitted
            return
        classifier, start = self.build(c), 0
        for size in sizes:
            yield classifier.partial_fit(features[start:size], labels[start:size], classes=classes)
            start = size

    def constant_of(self, classifier: Classifier) -> float | None:
        """Return the fitted classifier's regularisation constant, or None where the head has none."""
        return None if self.constant is None else float(getattr(classifier, self.constant))


HEADS: Registry[Head] = Registry(
    "head",
    {
        "naive_bayes": "stages.probe.naive_bayes:HEAD",
        "logistic": "stages.probe.logistic:HEAD",
        "gaussian_nb": "stages.probe.references:GAUSSIAN_NB",
    },
)
