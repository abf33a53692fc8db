"""Learning curves: the test error of every head on the same nested draws of the training features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import threadpoolctl
from numpy.typing import NDArray

from stages.probe.draws import Draws, few_shot_draws, nested_draws
from stages.probe.heads import HEADS, Head
from stages.probe.linear import Linear
from stages.probe.measures import Measures, measure, measure_linear

_LOG = logging.getLogger(__name__)

SCHEMA = {
    "head": pl.String,
    "m": pl.Int64,
    "seed": pl.Int64,
    "error": pl.Float64,
    "mean_per_class_error": pl.Float64,
    "log_loss": pl.Float64,
    "calibration_error": pl.Float64,
    "alpha_or_c": pl.Float64,
    "warning": pl.String,
}
_Cell = tuple[Measures, float | None, str | None]


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
    per_class: bool = False,
    run_seed: int = 0,
    names: Sequence[str] = (),
    c: float | Sequence[float] = 1.0,
    workers: int = 1,
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
        sizes: training sizes m; examples of every class where `per_class`.
        seeds: repetitions, numbered 0 .. seeds-1.
        heads: names in `HEADS`.
        per_class: draw as many rows of each class (few-shot) instead of rows whatever their class.
        run_seed: the run's seed.
        names: what else the draws depend on, for instance the target; give the same names to get the same draws.
        c: the penalty's inverse strength, for the heads that have one; a sequence is a grid to choose from, by validation
            inside each draw.
        workers: seeds fitted side by side, with one BLAS thread each; no result depends on it.
        on_fit: called after every fit, for a progress bar; by several threads where there are several workers.

    Returns:
        head, m, seed; error, mean_per_class_error, log_loss and calibration_error as in `Measures`; alpha_or_c, and a warning
        or null; sorted by head, m, seed.

    Raises:
        InputProblem: an unknown head, or no size that can be drawn.
    """
    chosen = {name: HEADS[name] for name in heads}
    draw = few_shot_draws if per_class else nested_draws
    draws = draw(train_y, sizes, seeds, run_seed=run_seed, names=names)
    if draws.left_out:
        reason = "not every class has as many" if per_class else "they do not hold all classes or are not there"
        _LOG.warning("%s: no draws of %s rows%s, %s", "/".join(names), list(draws.left_out), " a class" * per_class, reason)
    rest = _Fits(train_x, train_y, test_x, test_y, chosen, draws, c, on_fit)
    if workers == 1:
        found = [rest.of(seed) for seed in range(seeds)]
    else:
        with threadpoolctl.threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(rest.of, range(seeds)))
    rows = []
    for seed, cells in enumerate(found):
        for (name, m), cell in (found[0] | cells).items():  # of all rows, there is one draw
            measures, constant, warning = cell
            rows.append((name, m, seed, *measures, constant, warning))
            if warning is not None and (name, m) in cells:
                _LOG.warning("%s: %s on %d rows, seed %d: %s", "/".join(names), name, m, seed, warning)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("head", "m", "seed")


class _Fits:
    """All fits of one seed, for any seed."""

    def __init__(
        self,
        train_x: NDArray[Any],
        train_y: NDArray[Any],
        test_x: NDArray[Any],
        test_y: NDArray[Any],
        heads: dict[str, Head],
        draws: Draws,
        c: float | Sequence[float],
        on_fit: Callable[[], object],
    ) -> None:
        self.train, self.test = (train_x, train_y), (test_x, test_y)
        self.heads, self.draws, self.c, self.on_fit = heads, draws, c, on_fit
        self.classes = np.unique(train_y)

    def of(self, seed: int) -> dict[tuple[str, int], _Cell]:
        """Return what every head and size came to; the draw of all rows is left to seed 0."""
        order = self.draws.orders[seed]
        sizes = [m for m in self.draws.sizes if seed == 0 or m < len(self.train[1])]
        if not sizes:
            return {}
        rows = order[: sizes[-1]]
        features, labels = self.train[0][rows], self.train[1][rows]
        origin = features[: sizes[0]].mean(axis=0, dtype=np.float64)
        cells: dict[tuple[str, int], _Cell] = {}
        linear: dict[tuple[str, int], tuple[Any, float | None, str | None]] = {}
        for name, head in self.heads.items():
            defined = [m for m in sizes if m >= len(self.classes) + head.beyond_classes]
            fits = head.along(features, labels, defined, self.classes, self.c)
            for m, (classifier, constant, warning) in zip(defined, fits, strict=True):
                if isinstance(classifier, Linear):
                    linear[name, m] = classifier.seen_from(origin), constant, warning
                else:
                    cells[name, m] = measure(classifier, *self.test), constant, warning
                self.on_fit()
        measured = measure_linear([model for model, _, _ in linear.values()], self.classes, origin, *self.test)
        found = {key: (value, *linear[key][1:]) for key, value in zip(linear, measured, strict=True)}
        return {**found, **cells}
