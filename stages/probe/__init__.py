"""Which classifier head, and from how many labels on: naive Bayes or logistic regression on frozen features.

The estimators load scikit-learn, so they are imported when first asked for; the registry is cheap to read.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stages.probe.heads import HEADS, Classifier, Head

if TYPE_CHECKING:
    from stages.probe.curves import default_sizes, learning_curves
    from stages.probe.logistic import LogisticProbe
    from stages.probe.naive_bayes import SharedVarianceGaussianNB

__all__ = [
    "HEADS",
    "Classifier",
    "Head",
    "LogisticProbe",
    "SharedVarianceGaussianNB",
    "default_sizes",
    "learning_curves",
]

_HOMES = {
    "LogisticProbe": "stages.probe.logistic",
    "SharedVarianceGaussianNB": "stages.probe.naive_bayes",
    "default_sizes": "stages.probe.curves",
    "learning_curves": "stages.probe.curves",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
