"""How the score grows with labelled target examples: score = offset + slope log10(1 + n), against a line and a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.errors import InputProblem

LEVEL = 0.95
MOST_BEYOND = 100  # times the largest n measured; a goal further out is not promised

CURVES = {
    "task": pl.String, "target": pl.String, "offset": pl.Float64, "slope_per_decade": pl.Float64,
    "slope_low": pl.Float64, "slope_high": pl.Float64, "r2_log": pl.Float64, "r2_linear": pl.Float64, "r2_step": pl.Float64,
    "n_for_goal": pl.Int64, "warning": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A least-squares line with an intercept of its own for each series: mean intercept, slope and its interval, within-R2."""

    offset: float
    slope: float
    low: float | None
    high: float | None
    r2: float | None


def within_line(x: NDArray[np.float64], y: NDArray[np.float64], series: NDArray[np.int64], level: float = LEVEL) -> Line | None:
    """Fit y = intercept[series] + slope x on x, y, series [n]; None where x varies inside no series.

    R2 is of what varies inside the series, None where y does not. The interval is Student's, None without a degree of freedom.
    """
    from scipy import stats

    names, index, counts = np.unique(series, return_inverse=True, return_counts=True)
    x_means, y_means = (np.bincount(index, values) / counts for values in (x, y))
    dx, dy = x - x_means[index], y - y_means[index]
    varies = float(dx @ dx)
    if varies <= 1e-12:
        return None
    slope = float(dx @ dy) / varies
    offset = float(np.mean(y_means - slope * x_means))
    residual = float(np.sum((dy - slope * dx) ** 2))
    total = float(dy @ dy)
    freedom = len(x) - len(names) - 1
    half = None
    if freedom > 0:
        half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(residual / freedom / varies)
    return Line(
        offset,
        slope,
        None if half is None else slope - half,
        None if half is None else slope + half,
        1 - residual / total if total > 1e-15 else None,
    )


def fewshot_curve(pairs: pl.DataFrame, *, goal: float) -> pl.DataFrame:
    """Return `fewshot_curves`: one fitted curve for each task and target measured at two or more numbers of examples.

    Sources are averaged first, those measured at every n of a seed, because the sources of a seed share its target examples
    and their errors are not independent. A seed measured at several n has an intercept of its own (its own split of the
    entities); seeds measured at one n share one.

    Args:
        pairs: task, target, score, n_shots, and optionally source and seed; pairs of a language with itself are ignored.
        goal: the score that `n_for_goal` aims at. Refused (null, the reason in `warning`) where the slope is not surely
            positive or the goal lies more than 100 times beyond the measured n; with a warning where it lies beyond it at all.
    """
    missing = [name for name in ("task", "target", "score", "n_shots") if name not in pairs.columns]
    if missing:
        raise InputProblem(f"has no column {missing[0]!r}", where="the table of language pairs", next_step="add it")
    rows = pairs
    if "source" in rows.columns:
        rows = rows.filter(pl.col("source") != pl.col("target"))
    else:
        rows = rows.with_columns(source=pl.lit("any"))
    if "seed" not in rows.columns:
        rows = rows.with_columns(seed=pl.lit(0))
    keys = ["task", "target", "seed"]
    grid = rows.filter(pl.col("n_shots").n_unique().over(*keys, "source") == pl.col("n_shots").n_unique().over(keys))
    points = grid.group_by(*keys, "n_shots").agg(pl.col("score").mean()).sort(*keys, "n_shots")
    points = points.with_columns(
        series=pl.when(pl.len().over(keys) > 1).then(pl.col("seed").rank("dense").over("task", "target")).otherwise(0)
    )
    found = [
        _curve(str(task), str(target), of_target, goal)
        for (task, target), of_target in points.group_by("task", "target", maintain_order=True)
        if of_target.get_column("n_shots").n_unique() > 1
    ]
    return pl.DataFrame(found, schema=CURVES, orient="row").sort("task", "target")


def _curve(task: str, target: str, points: pl.DataFrame, goal: float) -> dict[str, object]:
    n = points.get_column("n_shots").to_numpy().astype(np.float64)
    y = points.get_column("score").to_numpy().astype(np.float64)
    series = points.get_column("series").to_numpy().astype(np.int64)
    log, linear, step = (within_line(x, y, series) for x in (np.log10(1 + n), n, (n > 0).astype(np.float64)))
    assert log is not None  # two different n, so log10(1 + n) varies
    needed, warning = examples_for(goal, log, float(n.max()))
    return {
        "task": task, "target": target, "offset": log.offset, "slope_per_decade": log.slope,
        "slope_low": log.low, "slope_high": log.high, "r2_log": log.r2,
        "r2_linear": linear.r2 if linear else None, "r2_step": step.r2 if step else None,
        "n_for_goal": needed, "warning": warning,
    }  # fmt: skip


def examples_for(goal: float, line: Line, largest: float) -> tuple[int | None, str | None]:
    """Return how many target examples the goal takes by the line and a warning, or None and the reason why that is not said."""
    if line.low is None:
        return None, "too few measurements to tell the slope"
    if line.low <= 0 <= (line.high or 0.0):
        reached = "; the goal is reached without any" if goal <= line.offset else ""
        return None, (
            f"the slope may be 0 (interval {line.low:.3f} to {line.high:.3f}): examples are not shown to help{reached}"
        )
    if line.slope < 0:
        return None, f"the score falls with examples (slope {line.slope:.3f} per decade)"
    if goal <= line.offset:
        return 0, None
    decades = (goal - line.offset) / line.slope
    if decades > math.log10(1 + MOST_BEYOND * largest):
        return None, f"the goal {goal:g} lies more than {MOST_BEYOND} times beyond the {largest:.0f} examples measured"
    needed = math.ceil(10**decades - 1 - 1e-9)
    return needed, f"extrapolated: only {largest:.0f} examples were measured" if needed > largest else None
