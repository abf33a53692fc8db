"""How many examples each head needs on the Gaussian mixtures of arXiv 2302.02334: O(log n) against O(n).

The protocol: draws of m = 2K examples and up, 10,000 test points, and the first m at which the mean error over the seeds is
below Bayes error + epsilon. The features are not scaled; their units are part of the mixture. Here the draws of one
seed are nested (redrawn until the first 2K hold all classes), m goes up by factors of the square root of 2, and the step
in which the error falls below is then halved until it is no wider than 5%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.probe.crossover import LOGISTIC, NAIVE_BAYES
from stages.probe.logistic import LogisticProbe
from stages.probe.mixture import Mixture
from stages.probe.naive_bayes import SharedVarianceGaussianNB
from stages.probe.surrogate import error_bound, excesses
from stages.seeds import generator

FACTOR = 2**0.5  # from one m to the next
RESOLUTION = 1.05  # of the m that is found
# Nats, of the mean loss; that is a few thousandths where a search ends, and a tolerance of 1e-6 moves the m of 5 classes in
# 200 dimensions by a fifth.
TOLERANCE = 1e-9
LAWS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"log": np.log, "linear": np.asarray}
FEWEST_DIMS = 3  # through two points every law passes
SCHEMA = {
    "k": pl.Int64, "n_dims": pl.Int64, "head": pl.String, "seed": pl.Int64, "m_to_epsilon": pl.Int64,
    "error_at_m": pl.Float64, "m_of_mean": pl.Int64, "bayes_error": pl.Float64, "warning": pl.String,
}  # fmt: skip
FIT_SCHEMA = {
    "k": pl.Int64, "head": pl.String, "law": pl.String, "slope": pl.Float64, "intercept": pl.Float64, "r2": pl.Float64,
    "n_points": pl.Int64, "warning": pl.String,
}  # fmt: skip
BOUND_SCHEMA = {
    "k": pl.Int64, "n_dims": pl.Int64, "seed": pl.Int64, "m": pl.Int64, "excess_log_loss": pl.Float64,
    "excess_error": pl.Float64, "error_bound": pl.Float64,
}  # fmt: skip


@dataclass
class Sample:
    """One seed's growing draw of a mixture; that of size m is its first m rows."""

    mixture: Mixture
    random: np.random.Generator

    def __post_init__(self) -> None:
        smallest = 2 * self.mixture.n_classes
        while True:
            self._y = self.random.integers(self.mixture.n_classes, size=smallest)
            if len(np.unique(self._y)) == self.mixture.n_classes:
                break
        self._x = self.mixture.points(self._y, self.random)

    def first(self, m: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return features [m, n] and labels [m], m >= 2K, the same for the same m whatever was asked before."""
        while len(self._y) < m:  # doubled in fixed steps, so that the stream does not depend on the sizes asked for
            labels = self.random.integers(self.mixture.n_classes, size=len(self._y))
            self._y, self._x = (
                np.concatenate([self._y, labels]),
                np.concatenate([self._x, self.mixture.points(labels, self.random)]),
            )
        return self._x[:m], self._y[:m]


class Cell:
    """One mixture with its test points and one draw a seed, on which errors are measured once each."""

    def __init__(self, mixture: Mixture, seeds: int, test_points: int, c: float, run_seed: int) -> None:
        names = ("simulation", mixture.n_classes, mixture.n_dims)
        self.mixture, self._c = mixture, c
        random = generator(run_seed, *names, "test")
        self._test_y = random.integers(mixture.n_classes, size=test_points)
        self._test_x = mixture.points(self._test_y, random)
        self._samples = [Sample(mixture, generator(run_seed, *names, seed)) for seed in range(seeds)]
        self._errors: dict[tuple[str, int, int], float] = {}
        self.stopped: set[tuple[str, int, int]] = set()  # the fits that ended before they had converged
        self.bounds: list[tuple[int, int, int, int, float, float, float]] = []

    @cached_property
    def _log_truth(self) -> NDArray[np.float64]:
        return self.mixture.log_posterior(self._test_x)

    def error(self, head: str, seed: int, m: int) -> float:
        """Return the test error of a head on one seed's draw of m."""
        key = (head, seed, m)
        if key not in self._errors:
            x, y = self._samples[seed].first(m)
            fitted: Any = (
                SharedVarianceGaussianNB() if head == NAIVE_BAYES else LogisticProbe(c=self._c, scale=False, tol=TOLERANCE)
            )
            scores = fitted.fit(x, y).predict_log_proba(self._test_x)
            self._errors[key] = float((scores.argmax(axis=1) != self._test_y).mean())
            if not getattr(fitted, "converged_", True):
                self.stopped.add(key)
            if head == LOGISTIC:
                error, loss = excesses(self._log_truth, scores)
                row = (self.mixture.n_classes, self.mixture.n_dims, seed, m, loss, error, float(error_bound(loss)))
                self.bounds.append(row)
        return self._errors[key]

    def mean_error(self, head: str, m: int) -> float:
        """Return the mean over the seeds."""
        return float(np.mean([self.error(head, seed, m) for seed in range(len(self._samples))]))


def first_below(error: Callable[[int], float], threshold: float, start: int, max_m: int) -> int | None:
    """Return an m from which on the error is below the threshold, to 5%, or None where it is not by `max_m`.

    Sizes go up from `start` by a factor of the square root of 2, `max_m` the last; the step in which the error first
    falls below is halved, in log m, until its ends are within 5% or are neighbours.
    """
    above, m = start, start
    while error(m) >= threshold:
        if m >= max_m:
            return None
        above, m = m, min(max(m + 1, round(m * FACTOR)), max_m)
    while m - above > 1 and m > above * RESOLUTION:
        middle = min(max(round((above * m) ** 0.5), above + 1), m - 1)
        above, m = (above, middle) if error(middle) < threshold else (middle, m)
    return m


def sample_complexity(
    classes: list[int],
    dims: list[int],
    *,
    seeds: int,
    epsilon: float,
    max_m: int,
    test_points: int = 10_000,
    c: float = 1.0,
    run_seed: int = 0,
    on_search: Callable[[], object] = lambda: None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Search, for every mixture, head and seed, the number of examples that brings the error within epsilon of Bayes error.

    Args:
        classes: numbers of classes K, each >= 2.
        dims: numbers of dimensions n, each >= 2.
        seeds: draws of each mixture, numbered 0 .. seeds-1.
        epsilon: above Bayes error, in (0, 1).
        max_m: the most examples tried, at least 2K.
        test_points: fresh points on which errors are measured.
        c: inverse strength of the penalty of logistic regression.
        run_seed: the run's seed.
        on_search: called after each mixture and head, for a progress bar.

    Returns:
        The rows of `sample_complexity`: `m_to_epsilon` by each seed's own error, `m_of_mean` by the mean error over the
        seeds (the paper's rule), null where `max_m` does not suffice; `error_at_m` at `m_to_epsilon`, or at `max_m`.
        And the rows of `logistic_bound`: every logistic fit on the way. Both sorted by their keys.
    """
    rows: list[tuple[int, int, str, int, int | None, float, int | None, float, str | None]] = []
    bounds: list[tuple[int, int, int, int, float, float, float]] = []
    for k in classes:
        for n in dims:
            mixture = Mixture(k, n)
            cell = Cell(mixture, seeds, test_points, c, run_seed)
            threshold = mixture.bayes_error + epsilon
            for head in (NAIVE_BAYES, LOGISTIC):
                of_mean = first_below(partial(cell.mean_error, head), threshold, 2 * k, max_m)
                for seed in range(seeds):
                    found = first_below(partial(cell.error, head, seed), threshold, 2 * k, max_m)
                    at = max_m if found is None else found
                    error = cell.error(head, seed, at)
                    notes = [] if found is not None else [f"still above at {max_m} examples"]
                    if (head, seed, at) in cell.stopped:
                        notes.append("the fit there ended before it had converged")
                    rows.append((k, n, head, seed, found, error, of_mean, mixture.bayes_error, "; ".join(notes) or None))
                on_search()
            bounds += cell.bounds
    return (
        pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("k", "n_dims", "head", "seed"),
        pl.DataFrame(bounds, schema=BOUND_SCHEMA, orient="row").sort("k", "n_dims", "seed", "m"),
    )


def fits(found: pl.DataFrame) -> pl.DataFrame:
    """Fit m = intercept + slope f(n) by least squares for every K and head, with f(n) = log n and f(n) = n.

    Args:
        found: rows of `sample_complexity`; one point a mixture, its `m_of_mean`.

    Returns:
        k, head, law (`log`, `linear`), slope (examples a unit of f), intercept, r2, n_points, warning; null where fewer
        than three n remain, and r2 where m does not vary.
    """
    rows: list[dict[str, Any]] = []
    points = found.group_by("k", "head", "n_dims").agg(pl.col("m_of_mean").first()).sort("k", "head", "n_dims")
    for (k, head), group in points.group_by("k", "head", maintain_order=True):
        known = group.drop_nulls()
        n, m = known["n_dims"].to_numpy().astype(np.float64), known["m_of_mean"].to_numpy().astype(np.float64)
        missing = len(group) - len(known)
        for law, of in LAWS.items():
            row: dict[str, Any] = {"k": k, "head": head, "law": law, "n_points": len(n)}
            notes = [f"{missing} of {len(group)} n left out: not reached"] if missing else []
            if len(n) < FEWEST_DIMS:
                notes.append(f"{len(n)} n do not tell one law from another")
            else:
                f = of(n)
                away = f - f.mean()
                slope = float(away @ m / (away @ away))
                residual, spread = m - m.mean() - slope * away, m - m.mean()
                row |= {"slope": slope, "intercept": float(m.mean() - slope * f.mean())}
                if spread.any():
                    row["r2"] = float(1 - residual @ residual / (spread @ spread))
                else:
                    notes.append("m is the same at every n")
            rows.append({**row, "warning": "; ".join(notes) or None})
    return pl.DataFrame(rows, schema=FIT_SCHEMA).sort("k", "head", "law")
