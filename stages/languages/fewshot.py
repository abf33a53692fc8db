"""How the score grows with labelled target examples: score = offset + slope log10(1 + n), against a line and a step.

Every target has its own curve; slopes and residual variances of a task's targets are shrunk towards each other (`shrink`).
Levels are not: they differ between targets by far more than they are uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from stages.errors import InputProblem
from stages.languages.shrink import moderate, towards_mean
from stages.languages.within import Line, within_line

CLEARLY = 0.1  # of R2
MOST_BEYOND = 100  # times the largest n measured; a goal further out is not promised

CURVES = {
    "task": pl.String, "target": pl.String, "source": pl.String, "offset": pl.Float64, "slope_per_decade": pl.Float64,
    "slope_low": pl.Float64, "slope_high": pl.Float64, "slope_alone": pl.Float64, "shrinkage": pl.Float64,
    "r2_log": pl.Float64, "r2_linear": pl.Float64, "r2_step": pl.Float64, "n_for_goal": pl.Int64, "n_low": pl.Int64,
    "n_high": pl.Int64, "warning": pl.String,
}  # fmt: skip
LAWS = {
    "task": pl.String, "n_targets": pl.Int64, "r2_log": pl.Float64, "r2_linear": pl.Float64, "r2_step": pl.Float64,
    "held": pl.Int64, "tested": pl.Int64,
}  # fmt: skip


def fewshot_curve(pairs: pl.DataFrame, *, goal: float) -> pl.DataFrame:
    """Return `fewshot_curves`: one fitted curve for each task and target measured at two or more numbers of examples.

    Args:
        pairs: task, target, score, n_shots, and optionally source and seed; pairs of a language with itself are ignored.
        goal: the score that `n_for_goal` aims at. Refused (null, the reason in `warning`) where the slope is not surely
            positive or the goal lies more than 100 times beyond the measured n; with a warning where it lies beyond it at all.
    """
    found = [pl.DataFrame(schema=CURVES)]
    for (task,), points in measured_points(pairs).group_by("task", maintain_order=True):
        targets = points.partition_by("target", maintain_order=True, as_dict=True)
        tested = backtest(points)
        rows = [
            _curve(str(task), str(target), of_target, line, drawn, goal, tested)
            for ((target,), of_target), (line, drawn) in zip(targets.items(), _together(targets.values()), strict=True)
        ]
        found.append(pl.DataFrame(rows, schema=CURVES, orient="row"))
    return pl.concat(found).sort("task", "target")


def backtest(points: pl.DataFrame) -> tuple[int, int] | None:
    """Return for how many targets of a task the mean score at the largest n lies in the 95% interval predicted without it.

    Of how many, comes second; None where no target was measured at three numbers of examples. Curves that are steeper on the
    logarithm further out, as those of a new script are, show here that the law must not be trusted beyond what was measured.
    """
    largest = points["n_shots"].max()
    before = points.filter(pl.col("n_shots") < largest).filter(pl.col("n_shots").n_unique().over("target") > 1)
    fitted = before.partition_by("target", maintain_order=True, as_dict=True)
    inside = []
    for ((target,), _), (line, _) in zip(fitted.items(), _together(fitted.values()), strict=True):
        last = points.filter((pl.col("target") == target) & (pl.col("n_shots") == largest))["score"].to_list()
        if last and line is not None and line.error is not None and line.variance is not None:
            x = math.log10(1 + largest) - line.middle[0]  # type: ignore[operator]  # no null is in n_shots
            error = math.sqrt(line.variance / line.n + (line.error * x) ** 2 + line.variance / len(last))
            expected = line.middle[1] + line.slope * x
            inside.append(abs(sum(last) / len(last) - expected) <= line.quantile() * error)
    return (sum(inside), len(inside)) if inside else None


def laws(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return task, n_targets and the R2 inside targets of the logarithm, the line and the step, one slope for all targets.

    `held` of `tested` targets are what `backtest` says.
    """
    rows = []
    for (task,), points in measured_points(pairs).group_by("task", maintain_order=True):
        numbered = points.with_columns(series=pl.struct("target", "series").rank("dense"))
        fits = [_line(numbered, law) for law in ("log", "linear", "step")]
        r2 = [None if line is None else line.r2 for line in fits]
        rows.append((task, points["target"].n_unique(), *r2, *(backtest(points) or (None, None))))
    return pl.DataFrame(rows, schema=LAWS, orient="row").sort("task")


def of_choice(pairs: pl.DataFrame, ranked: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs whose curves are of use: each target's with the source ranked first for it.

    A target whose first source was measured at one number of examples only, as mixes are, keeps all its sources.
    """
    chosen = ranked.filter(pl.col("rank") == 1).select("task", "target", "source")
    first = pairs.join(chosen, on=["task", "target", "source"], how="semi")
    several = first.group_by("task", "target").agg(pl.col("n_shots").n_unique()).filter(pl.col("n_shots") > 1)
    others = pairs.join(several, on=["task", "target"], how="anti")
    others = others.join(chosen, on=["task", "target"], how="semi")
    return pl.concat([first.join(several, on=["task", "target"], how="semi"), others])


def measured_points(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return task, target, n_shots, score, series and source (null: several) of the targets measured at two or more n, sorted.

    Sources measured at every n of a seed are averaged first, because the sources of a seed share its target examples and their
    errors are not independent; the seed is a series, which has its own intercept (its own split of the entities). Where a seed
    has no such source, as in tables of mixes, and where it has one n alone, its points share one series with all such.
    """
    missing = [name for name in ("task", "target", "score", "n_shots") if name not in pairs.columns]
    if missing:
        raise InputProblem(f"has no column {missing[0]!r}", where="the table of language pairs", next_step="add it")
    rows = pairs
    if "source" in rows.columns:
        rows = rows.filter(pl.col("source") != pl.col("target"))
    else:
        rows = rows.with_columns(source=pl.lit(None, dtype=pl.String))
    if "seed" not in rows.columns:
        rows = rows.with_columns(seed=pl.lit(0))
    keys = ["task", "target", "seed"]
    rows = rows.select(*keys, "source", "n_shots", pl.col("score").cast(pl.Float64)).with_columns(
        of_seed=pl.col("n_shots").n_unique().over(keys), of_source=pl.col("n_shots").n_unique().over(*keys, "source")
    )
    complete = pl.col("of_source") == pl.col("of_seed")
    grids = rows.filter(complete.any().over(keys))
    others = rows.filter(~complete.any().over(keys)).select(*keys, "n_shots", "source", "score", series=pl.lit(0, pl.UInt32))
    averaged = (
        grids.filter(complete)
        .group_by(*keys, "n_shots", "of_seed")
        .agg(pl.col("score").mean(), pl.when(pl.col("source").n_unique() == 1).then(pl.col("source").first()).first())
        .with_columns(
            series=pl.when(pl.col("of_seed") > 1).then(pl.col("seed").rank("dense").over("task", "target")).otherwise(0)
        )
        .select(*keys, "n_shots", "source", "score", pl.col("series").cast(pl.UInt32))
    )
    points = pl.concat([averaged, others]).filter(pl.col("n_shots").n_unique().over("task", "target") > 1)
    return points.sort("task", "target", "series", "seed", "n_shots", "source", "score")


def _line(points: pl.DataFrame, law: str) -> Line | None:
    n = points.get_column("n_shots").to_numpy().astype(np.float64)
    x = {"log": np.log10(1 + n), "linear": n, "step": (n > 0).astype(np.float64)}[law]
    return within_line(x, points.get_column("score").to_numpy(), points.get_column("series").to_numpy().astype(np.int64))


def _together(targets: Iterable[pl.DataFrame]) -> list[tuple[Line | None, float | None]]:
    """Return the lines of a task's targets with slopes and variances shrunk, and how far each slope was drawn."""
    lines = [_line(points, "log") for points in targets]
    at = [place for place, line in enumerate(lines) if line is not None]
    fitted = [line for line in lines if line is not None]
    variances, freedom = moderate(
        np.array([line.variance or 0.0 for line in fitted]), np.array([line.freedom for line in fitted], dtype=np.float64)
    )
    slopes = np.array([line.slope for line in fitted])
    varies = np.array([line.varies for line in fitted])
    told = freedom > 0
    found: list[tuple[Line | None, float | None]] = [(line, None) for line in lines]
    if told.any():
        shrunk = towards_mean(slopes[told], variances[told] / varies[told])
        for place, slope, error, weight, variance, free in zip(
            np.array(at)[told], shrunk.values, shrunk.errors, shrunk.weights, variances[told], freedom[told], strict=True
        ):
            line = lines[place]
            assert line is not None
            changed = replace(line, slope=float(slope), error=float(error), variance=float(variance), freedom=float(free))
            found[place] = changed, float(weight)
    return found


def _curve(
    task: str,
    target: str,
    points: pl.DataFrame,
    line: Line | None,
    drawn: float | None,
    goal: float,
    tested: tuple[int, int] | None,
) -> dict[str, object]:
    log, linear, step = (_line(points, law) for law in ("log", "linear", "step"))
    sources = points["source"].unique().to_list()
    row: dict[str, object] = {"task": task, "target": target, "source": sources[0] if len(sources) == 1 else None}
    if line is None or log is None:
        return {**dict.fromkeys(CURVES), **row, "warning": "no series was measured at two numbers of examples"}
    low, high = line.interval or (None, None)
    needed = examples_for(goal, line, float(points["n_shots"].max()))  # type: ignore[arg-type]  # no null is in n_shots
    warnings = [needed.warning]
    if needed.n:
        warnings.append(_other_law(log, linear, step))
    if needed.n and needed.n > points["n_shots"].max() and tested is not None:  # type: ignore[operator]  # the same
        warnings.append(f"left out, the largest n fell into its interval for {tested[0]} of {tested[1]} targets")
    return {
        **row, "offset": line.offset, "slope_per_decade": line.slope, "slope_low": low, "slope_high": high,
        "slope_alone": log.slope, "shrinkage": drawn, "r2_log": log.r2, "r2_linear": linear.r2 if linear else None,
        "r2_step": step.r2 if step else None, "n_for_goal": needed.n, "n_low": needed.low, "n_high": needed.high,
        "warning": "; ".join(filter(None, warnings)) or None,
    }  # fmt: skip


def _other_law(log: Line, linear: Line | None, step: Line | None) -> str | None:
    """Say that the number comes from a law which fits worse than another one, by more than rounding and chance would do."""
    fits = [(line.r2 or 0.0, name) for line, name in ((linear, "a line in n"), (step, "a step")) if line is not None]
    if fits and max(fits)[0] > (log.r2 or 0.0) + CLEARLY:
        return f"{max(fits)[1]} fits better than the logarithm (R2 {max(fits)[0]:.2f} against {log.r2 or 0.0:.2f})"
    return None


@dataclass(frozen=True)
class Needed:
    """Target examples that a goal takes, with the ends of a 95% interval; no number, and then the reason, in `warning`."""

    n: int | None
    low: int | None
    high: int | None
    warning: str | None


def examples_for(goal: float, line: Line, largest: float) -> Needed:
    """Return how many target examples the goal takes by the line, or the reason why that is not said.

    The interval is where the line's own 95% band reaches the goal (Fieller 1954); without an upper end where that lies more
    than 100 times beyond the `largest` n measured.
    """
    if line.interval is None:
        return Needed(None, None, None, "too few measurements to tell the slope")
    low, high = line.interval
    if low <= 0 <= high:
        reached = "; the goal is reached without any" if goal <= line.offset else ""
        reason = f"the slope may be 0 (interval {low:.3f} to {high:.3f}): examples are not shown to help{reached}"
        return Needed(None, None, None, reason)
    if line.slope < 0:
        return Needed(None, None, None, f"the score falls with examples (slope {line.slope:.3f} per decade)")
    farthest = math.log10(1 + MOST_BEYOND * largest)
    decades = max((goal - line.offset) / line.slope, 0.0)
    if decades > farthest:
        reason = f"the goal {goal:g} lies more than {MOST_BEYOND} times beyond the {largest:.0f} examples measured"
        return Needed(None, None, None, reason)
    ends = [line.middle[0] + root for root in _fieller(goal, line)]
    n, n_low, n_high = (_count(x) if x <= farthest else None for x in (decades, *ends))
    assert n is not None
    return Needed(n, n_low, n_high, f"extrapolated: only {largest:.0f} examples were measured" if n > largest else None)


def _fieller(goal: float, line: Line) -> tuple[float, float]:
    """Return where the band of the line reaches the goal, as differences d from the middle of x.

    The roots of (gap - slope d)^2 = q^2 (variance / n + error^2 d^2), real as the slope's interval leaves out 0.
    """
    assert line.variance is not None
    assert line.error is not None
    square = line.quantile() ** 2
    gap, constant = goal - line.middle[1], square * line.variance / line.n
    leading = line.slope**2 - square * line.error**2
    root = math.sqrt(max((gap * line.slope) ** 2 - leading * (gap**2 - constant), 0.0))
    return (gap * line.slope - root) / leading, (gap * line.slope + root) / leading


def _count(decades: float) -> int:
    return math.ceil(10 ** max(decades, 0.0) - 1 - 1e-9)
