"""What is wrong with a transfer table before anyone reads it: broken sources, saturated tasks, targets unlike all others."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.languages.design import Pairs, zero_shot

FAR = 5.0  # deviations (1.4826 x the median absolute one) below the other sources
LOW_EVERYWHERE = 0.9  # share of its targets on which a broken source is among the lowest quarter
LEAST_SOURCES = 5
NARROW = 0.02  # spread of a target's sources, in score, that is no choice
CEILING = 0.95
BEYOND = 1.0  # times the width of the other targets' range
BROKEN, SATURATED, OUTSIDE = "broken_source", "saturated_task", "target_out_of_range"

WARNINGS = {"task": pl.String, "kind": pl.String, "subject": pl.String, "detail": pl.String}


def deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each value [n] lies from the median, in robust deviations; 0 where all but few are equal."""
    centre = np.median(values)
    width = 1.4826 * np.median(np.abs(values - centre))
    return np.asarray((values - centre) / width) if width > 1e-9 else np.zeros(len(values))


def broken_sources(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the warnings about sources that are low on every target and, where that was measured, on themselves.

    A source's level is the median over targets of its score less the target's median. Broken is a source whose level lies five
    robust deviations below the others' and that is among the lowest quarter on nine of ten targets. A source that does well on
    itself is merely far from all others, by its script for instance, and is kept.
    """
    found = []
    own = _own_scores(pairs)
    for (task,), rows in zero_shot(pairs).group_by("task", maintain_order=True):
        table = rows.pivot("target", index="source", values="score").sort("source")
        names, scores = table["source"].to_list(), table.drop("source").to_numpy().astype(float)
        scores = scores[:, (~np.isnan(scores)).sum(axis=0) >= LEAST_SOURCES]
        told = (~np.isnan(scores)).any(axis=1)
        if told.sum() < LEAST_SOURCES:
            continue
        names = [name for name, there in zip(names, told, strict=True) if there]
        scores = scores[told]
        relative = scores - np.nanmedian(scores, axis=0)
        level = np.nanmedian(relative, axis=1)
        low = scores <= np.nanquantile(scores, 0.25, axis=0)
        share = low.sum(axis=1) / (~np.isnan(scores)).sum(axis=1)
        selves = {name: own[str(task), name] for name in names if (str(task), name) in own}
        for name, far, often, by in zip(names, deviations(level), share, level, strict=True):
            if far > -FAR or often < LOW_EVERYWHERE:
                continue
            itself = ", its score on itself was not measured"
            if name in selves:
                others = np.array([score for other, score in selves.items() if other != name])
                if len(others) < LEAST_SOURCES - 1 or not _low(selves[name], others):
                    continue
                itself = f", and it reaches {selves[name]:.3f} on itself where the others' median is {np.median(others):.3f}"
            detail = f"{-by:.3f} below the median source, low on {often:.0%} of its targets{itself}"
            found.append((str(task), BROKEN, name, detail))
    return pl.DataFrame(found, schema=WARNINGS, orient="row").sort("task", "subject")


def _low(score: float, others: NDArray[np.float64]) -> bool:
    """Say whether a source is as far below the others on itself as a failed fine-tuning is."""
    width = max(1.4826 * float(np.median(np.abs(others - np.median(others)))), 0.01)
    return bool(score < np.median(others) - FAR * width)


def _own_scores(pairs: pl.DataFrame) -> dict[tuple[str, str], float]:
    own = pairs.filter(pl.col("source") == pl.col("target"))
    if "n_shots" in own.columns:
        own = own.filter(pl.col("n_shots") == 0)
    means = own.group_by("task", "source").agg(pl.col("score").mean()).drop_nulls()
    return {(task, source): score for task, source, score in means.iter_rows()}


def without_broken(pairs: pl.DataFrame, warnings: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs whose source is not flagged as broken in its task."""
    broken = warnings.filter(pl.col("kind") == BROKEN).select("task", source="subject")
    return pairs.join(broken, on=["task", "source"], how="anti", maintain_order="left")


def saturated_tasks(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the tasks in which the choice of a source hardly matters: nearly all scores at the top, or all sources alike."""
    spread = zero_shot(pairs).group_by("task", "target").agg(
        width=pl.col("score").max() - pl.col("score").min(), floor=pl.col("score").quantile(0.1)
    )  # fmt: skip
    per_task = spread.group_by("task").agg(pl.col("width", "floor").median()).sort("task").drop_nulls()
    found = []
    for task, width, floor in per_task.iter_rows():
        if floor >= CEILING:
            found.append((task, SATURATED, "*", f"nine of ten sources reach {floor:.3f} on the median target"))
        elif width <= NARROW:
            found.append((task, SATURATED, "*", f"the sources of the median target differ by {width:.3f} in all"))
    return pl.DataFrame(found, schema=WARNINGS, orient="row")


def strange_targets(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the targets that lie outside the range of all others, so that models extrapolate when they are asked.

    Of each feature a target has the mean over its pairs. Outside is what lies beyond the others' range by more than its
    width: some language is always the first or the last, and only one far from the next is unlike them.
    """
    found = []
    for (task,), rows in zero_shot(pairs).group_by("task", maintain_order=True):
        every = Pairs.of(rows)
        names, profiles = _profiles(every)
        if len(names) < LEAST_SOURCES:
            continue
        for place, name in enumerate(names.tolist()):
            others = np.delete(profiles, place, axis=0)
            low, high = others.min(axis=0), others.max(axis=0)
            beyond = np.maximum(low - profiles[place], profiles[place] - high)
            scale = np.maximum(np.abs(high), np.abs(low)) * 1e-9 + 1e-12  # rounding of equal values
            outside = np.flatnonzero(beyond > np.maximum(BEYOND * (high - low), scale))
            if len(outside):
                span = [f"{every.names[i]} is {profiles[place, i]:.3g}, others {low[i]:.3g} to {high[i]:.3g}" for i in outside]
                found.append((str(task), OUTSIDE, name, "; ".join(span)))
    return pl.DataFrame(found, schema=WARNINGS, orient="row").sort("task", "subject")


def _profiles(every: Pairs) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    targets, index, counts = np.unique(every.target, return_inverse=True, return_counts=True)
    known = ~np.isnan(every.features)
    filled = np.where(known, every.features, 0.0)
    overall = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, filled, overall)
    sums = np.zeros((len(targets), filled.shape[1]))
    np.add.at(sums, index, filled)
    return every.languages[targets], sums / counts[:, None]


def outside_range(seen: Pairs, asked: Pairs) -> dict[str, str]:
    """Return target -> a warning, for targets of which some feature lies outside what was seen for most of their pairs."""
    if not len(seen) or not seen.names:
        return {}
    filled = np.where(np.isnan(seen.features), -np.inf, seen.features).max(axis=0)
    lowest = np.where(np.isnan(seen.features), np.inf, seen.features).min(axis=0)
    beyond = (asked.features > filled) | (asked.features < lowest)
    found = {}
    for target in np.unique(asked.target):
        mostly = beyond[asked.target == target].mean(axis=0) > 0.5
        if mostly.any():
            names = ", ".join(name for name, out in zip(seen.names, mostly, strict=True) if out)
            found[str(asked.languages[target])] = f"outside the range of the training languages: {names}"
    return found


def warnings_of(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return all warnings about a table: task, kind, subject, detail, sorted."""
    found = pl.concat([broken_sources(pairs), saturated_tasks(pairs), strange_targets(pairs)])
    return found.sort("task", "kind", "subject")
