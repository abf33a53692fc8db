"""What kind of target a target is, and which metric to rank encoders by on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from stages.params.answers import AUTO

ALL = "all"
EVERY_TARGET = "all targets"
BETTER = "better than chance"  # the verdict of a metric to trust
FEWEST_TARGETS = 3  # a narrower kind with fewer targets says less than all targets
# aspect -> upper bounds of its levels; a value goes to the first level whose bound it does not exceed
BOUNDS: dict[str, tuple[tuple[float, str], ...]] = {
    "classes": ((10, "2 to 10"), (100, "11 to 100"), (float("inf"), "over 100")),
    "images_per_class": ((20, "20 or fewer"), (100, "21 to 100"), (float("inf"), "over 100")),
    "n_over_d": ((1, "1 or less"), (10, "1 to 10"), (float("inf"), "over 10")),
}


@dataclass(frozen=True)
class Choice:
    """The metric that a target's encoders are ranked by, why, and what to know about it."""

    metric: str
    reason: str | None
    warning: str | None


def kinds(scores: pl.DataFrame) -> pl.DataFrame:
    """Return target, aspect, level: what each target's kind is, measured from what was scored.

    Args:
        scores: rows of the table `transferability`.
    """
    facts = (
        scores.group_by("target", "encoder", "layer")
        .agg(pl.col("n", "d", "n_classes").max())
        .group_by("target")
        .agg(
            classes=pl.col("n_classes").max().cast(pl.Float64),
            images_per_class=pl.col("n").max() / pl.col("n_classes").max(),
            n_over_d=pl.col("n").max() / pl.col("d").median(),
        )
        .sort("target")
    )
    rows = [(row["target"], ALL, EVERY_TARGET) for row in facts.iter_rows(named=True)]
    for aspect, bounds in BOUNDS.items():
        rows += [
            (row["target"], aspect, next(level for bound, level in bounds if row[aspect] <= bound))
            for row in facts.iter_rows(named=True)
        ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("target", "aspect", "level"), pl.String), orient="row")


def choices(wanted: str, metrics: Sequence[str], scores: pl.DataFrame, verdicts: pl.DataFrame) -> dict[str, Choice]:
    """Return target -> the metric to rank its encoders by.

    Args:
        wanted: a metric's name, or "auto": the metric that agrees best with fine-tuning on targets of the same kind, of
            those that score every candidate; trusted ones before others.
        metrics: all that are computed, in the order of params.yaml.
        scores: rows of the table `transferability`.
        verdicts: rows of the table `metric_verdicts`.

    The kind is the narrowest of the target's that holds at least three targets with accuracies, otherwise all targets.
    """
    of_target = kinds(scores)
    found = {}
    for (name,), group in scores.sort("target").group_by(["target"], maintain_order=True):
        target = str(name)
        aspect, level, judged = _narrowest(of_target.filter(pl.col("target") == target), verdicts)
        if wanted != AUTO:
            rows = judged.filter(pl.col("metric") == wanted).to_dicts()
            found[target] = Choice(wanted, None, _doubt(wanted, rows[0], aspect, level) if rows else None)
            continue
        complete = group.group_by("metric").agg(pl.col("score").null_count()).filter(pl.col("score") == 0)["metric"].to_list()
        usable = [metric for metric in metrics if metric in complete] or list(metrics)
        judged = judged.filter(pl.col("metric").is_in(usable) & pl.col("weighted_kendall").is_not_null()).sort(
            pl.col("verdict") != BETTER, "place", "metric"
        )
        if judged.is_empty():
            warning = "no accuracies say which metric to trust; the first in params.yaml is taken"
            found[target] = Choice(usable[0], None, warning)
            continue
        first = judged.row(0, named=True)
        found[target] = Choice(first["metric"], _reason(first, aspect, level), _doubt(first["metric"], first, aspect, level))
    return found


def _narrowest(levels: pl.DataFrame, verdicts: pl.DataFrame) -> tuple[str, str, pl.DataFrame]:
    """Return aspect, level and verdicts of the kind that says most about a target."""
    known = verdicts.join(levels, on=["aspect", "level"], how="semi")
    sizes = known.group_by("aspect", "level").agg(pl.col("n_targets").max())
    enough = sizes.filter((pl.col("aspect") == ALL) | (pl.col("n_targets") >= FEWEST_TARGETS))
    # Of kinds with as many targets the whole is taken, which needs no explanation.
    order = enough.sort("n_targets", pl.col("aspect") != ALL, "aspect")
    aspect, level = order.select("aspect", "level").row(0) if len(order) else (ALL, EVERY_TARGET)
    return aspect, level, known.filter((pl.col("aspect") == aspect) & (pl.col("level") == level))


def described(aspect: str, level: str) -> str:
    """Return a kind of target in words."""
    return level if aspect == ALL else f"targets with {aspect.replace('_', ' ')} {level}"


def _agreed(row: dict[str, Any]) -> str:
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return f"{row['weighted_kendall']:.2f}{interval}"


def _reason(row: dict[str, Any], aspect: str, level: str) -> str:
    best = "trusted, and agrees best" if row["verdict"] == BETTER else "agrees best"
    return f"{row['metric']} {best} with fine-tuning over {described(aspect, level)}, {_agreed(row)}"


def _doubt(metric: str, row: dict[str, Any], aspect: str, level: str) -> str | None:
    if row["verdict"] == BETTER:
        return None
    return f"{metric} is not shown to be better than chance over {described(aspect, level)} ({row['verdict']})"
