"""Learning curves: the test error of every head on the same nested draws of the training features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.probe.draws import nested_draws
from stages.probe.heads import HEADS, Classifier

_LOG = logging.getLogger(__name__)

SCHEMA = {
    "head": pl.String,
    "m": pl.Int64,
    "seed": pl.Int64,
    "error": pl.Float64,
    "mean_per_class_error": pl.Float64,
    "log_loss": pl.Float64,
    "alpha_or_c": pl.Float64,
}
# The logarithm of the smallest normal float64: a probability below it cannot be told from 0, which would cost infinity.
LOWEST_LOG_PROBABILITY = float(np.log(np.finfo(np.float64).tiny))


def default_sizes(n_train: int, n_classes: int, count: int = 7) -> list[int]:
    """Return at most `count` sizes on a log grid from 2 n_classes up to all n_train rows (arXiv 2302.02334)."""
    smallest = min(2 * n_classes, n_train)
    return sorted({round(size) for size in np.geomspace(smallest, n_train, count).tolist()})


def learning_curves(
    train_x: NDArray[Any],
    train_y: NDArray[Any],
    test_x: NDArray[Any],
    test_y: NDArray[Any],
    sizes: Sequence[int],
    seeds: int,
    heads: Sequence[str],
    *,
    run_seed: int = 0,
    names: Sequence[str] = (),
    c: float = 1.0,
    on_fit: Callable[[], object] = lambda: None,
) -> pl.DataFrame:
    """Fit every head on the same nested draws, and measure each fit on the whole test set.

    Nothing about the test set reaches a fit. Sizes that cannot be drawn with all classes are left out (`nested_draws`).
    The draw of all rows is the same set for every seed, so it is fitted once and reported for each.

    Args:
        train_x: [n, d] features, finite.
        train_y: [n] labels of any type.
        test_x: [t, d] features.
        test_y: [t] labels; one that `train_y` lacks is always an error.
        sizes: training sizes m.
        seeds: repetitions, numbered 0 .. seeds-1.
        heads: names in `HEADS`.
        run_seed: the run's seed.
        names: what else the draws depend on, for instance the target; give the same names to get the same draws.
        c: the penalty's inverse strength, for the heads that have one.
        on_fit: called after every fit, for a progress bar.

    Returns:
        head, m, seed; error and mean_per_class_error (0 to 1), log_loss (nats, each example's at most 708.4) and
        alpha_or_c; sorted by head, m, seed.

    Raises:
        InputProblem: an unknown head, or no size that can be drawn.
    """
    chosen = {name: HEADS[name] for name in heads}
    draws = nested_draws(train_y, sizes, seeds, run_seed=run_seed, names=names)
    if left_out := sorted(set(sizes) - set(draws.sizes)):
        _LOG.warning("%s: no draws of %s rows, they do not hold all classes or are not there", "/".join(names), left_out)
    classes = np.unique(train_y)
    rows: list[tuple[str, int, int, float, float, float, float | None]] = []
    for name, head in chosen.items():
        whole: tuple[float, float, float, float | None] | None = None
        for seed, order in enumerate(draws.orders):
            to_fit = [m for m in draws.sizes if whole is None or m < len(order)]
            features, labels = train_x[order[: to_fit[-1]]] if to_fit else train_x[:0], train_y[order]
            fits = head.along(features, labels, to_fit, classes, c)
            for m, classifier in zip(to_fit, fits, strict=True):
                if not getattr(classifier, "converged_", True):
                    _LOG.warning("%s: %s on %d rows, seed %d, did not converge", "/".join(names), name, m, seed)
                measured = (*_measure(classifier, test_x, test_y), head.constant_of(classifier))
                rows.append((name, m, seed, *measured))
                if m == len(order):
                    whole = measured
                on_fit()
            if whole is not None and len(order) not in to_fit:
                rows.append((name, len(order), seed, *whole))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("head", "m", "seed")


def _measure(classifier: Classifier, features: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float, float]:
    """Return error, mean per-class error and log loss on features [t, d] and labels [t]."""
    log_probabilities = np.maximum(classifier.predict_log_proba(features), LOWEST_LOG_PROBABILITY)  # (t, k)
    wrong = classifier.classes_[log_probabilities.argmax(axis=1)] != labels  # (t,)
    present, codes = np.unique(labels, return_inverse=True)
    per_class = np.bincount(codes, wrong, minlength=len(present)) / np.bincount(codes)
    column = np.searchsorted(classifier.classes_, labels).clip(max=len(classifier.classes_) - 1)
    known = classifier.classes_[column] == labels
    likelihood = np.where(known, log_probabilities[np.arange(len(labels)), column], LOWEST_LOG_PROBABILITY)
    return float(wrong.mean()), float(per_class.mean()), float(-likelihood.mean())
