"""Which source to train on: ranked sources of each target, what the choice costs, and which sources cannot be ruled out."""

from __future__ import annotations

import math

import polars as pl

from stages.languages.design import feature_columns, zero_shot
from stages.languages.predict import COVERAGE

RANKED = {
    "task": pl.String, "target": pl.String, "rank": pl.Int64, "source": pl.String,
    "predicted": pl.Float64, "measured": pl.Float64, "regret": pl.Float64, "conformal_set": pl.Boolean,
}  # fmt: skip
COMPARED = {"task": pl.String, "rule": pl.String, "mean_regret": pl.Float64, "n_targets": pl.Int64}


def rank_sources(predictions: pl.DataFrame, *, model: str = "ridge", coverage: float = COVERAGE) -> pl.DataFrame:
    """Return `source_languages`: the sources of each target in the order of one model's predictions.

    Args:
        predictions: `language_predictions`, made without the target's pairs; source and target always differ in it.
        model: whose predictions rank; ties go to the first name.
        coverage: probability with which the set marked in `conformal_set` holds the target's best source. Each other target
            gives one gap, how far its best source was predicted below its first; sources within the conformal
            quantile of the gaps are in the set, and all sources are where there are too few targets to say.
    """
    chosen = predictions.filter((pl.col("model") == model) & (pl.col("source") != pl.col("target")))
    frames = [pl.DataFrame(schema=RANKED)]
    for (_,), of_task in chosen.sort("task", "target", "source").group_by("task", maintain_order=True):
        best = of_task.group_by("target").agg(
            gap=pl.col("predicted").max() - pl.col("predicted").sort_by("score", descending=True, maintain_order=True).first()
        )
        gaps = dict(best.select("target", "gap").iter_rows())
        for (target,), rows in of_task.group_by("target", maintain_order=True):
            limit = _quantile([gap for other, gap in gaps.items() if other != target], coverage)
            ranked = rows.sort(["predicted", "source"], descending=[True, False]).with_columns(
                rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
                measured=pl.col("score"),
                regret=pl.col("score").max() - pl.col("score"),
                conformal_set=pl.col("predicted").max() - pl.col("predicted") <= limit,
            )
            frames.append(ranked.select(pl.col(name).cast(dtype) for name, dtype in RANKED.items()))
    return pl.concat(frames).sort("task", "target", "rank")


def _quantile(gaps: list[float], coverage: float) -> float:
    """Return the conformal quantile: the ceil(coverage (n + 1))-th smallest gap, infinite where n is too small."""
    place = math.ceil(coverage * (len(gaps) + 1) - 1e-9)
    return sorted(gaps)[place - 1] if place <= len(gaps) else math.inf


def compare_choices(pairs: pl.DataFrame, ranked: pl.DataFrame) -> pl.DataFrame:
    """Return task, rule, mean_regret, n_targets: what choosing by a rule costs against the best source measured.

    Rules: `model` (first of `ranked`), `english`, `nearest_<x>` by each distance, `random` (the mean over sources). Only
    targets for which all rules have an answer count, so English itself is no target here. No row where nothing was measured
    without target examples.
    """
    rows = zero_shot(pairs).with_columns(regret=pl.col("score").max().over("task", "target") - pl.col("score"))
    keys = ["task", "target"]
    picks = {
        "model": ranked.filter(pl.col("rank") == 1).select(*keys, "regret"),
        "english": rows.filter(pl.col("source") == "en").select(*keys, "regret"),
        "random": rows.group_by(keys).agg(pl.col("regret").mean()),
    }
    for name in feature_columns(rows):
        if name.endswith("_distance"):
            near = rows.filter(pl.col(name).is_not_null()).sort(*keys, name, "source").group_by(keys, maintain_order=True)
            picks["nearest_" + name.removesuffix("_distance")] = near.first().select(*keys, "regret")
    picks = {rule: found for rule, found in picks.items() if not found.is_empty()}
    common = rows.select(keys).unique()
    for found in picks.values():
        common = common.join(found, on=keys, how="semi")
    frames = [
        found.join(common, on=keys, how="semi")
        .group_by("task")
        .agg(
            pl.lit(rule).alias("rule"),
            pl.col("regret").mean().alias("mean_regret"),
            pl.len().cast(pl.Int64).alias("n_targets"),
        )
        for rule, found in picks.items()
    ]
    return pl.concat([pl.DataFrame(schema=COMPARED), *frames]).sort("task", "mean_regret", "rule")
