"""The numbers that `dvc metrics show` and `dvc metrics diff` compare between runs."""

from __future__ import annotations

from typing import Any

import polars as pl

from stages.params import Params
from stages.report.section import Results, ranked_by


def metrics(settings: Params, results: Results) -> dict[str, Any]:
    """Return the numbers that `dvc metrics show` and `dvc metrics diff` compare between runs."""
    by = ranked_by(settings, results)
    trust = results["agreement"].filter(
        pl.col("metric") == pl.col("target").replace_strict(by, default=None, return_dtype=pl.String)
    )
    best = results["finetuned"].group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean())
    best = best.group_by("target").agg(pl.col("accuracy").max()).sort("target")
    misses = results["language_predictions"].with_columns(miss=(pl.col("predicted") - pl.col("score")).abs())
    misses = misses.group_by("model").agg(pl.col("miss").mean()).sort("model")
    first = results["source_languages"].filter(pl.col("rank") == 1)
    return {
        "rank": {
            str(mode): {
                "mean_weighted_kendall": _rounded(group["weighted_kendall"].mean()),
                "mean_top1_regret": _rounded(group["top1_regret"].mean()),
                "mean_random_regret": _rounded(group["random_regret"].mean()),
            }
            for (mode,), group in trust.sort("mode", "target").group_by(["mode"], maintain_order=True)
        },
        "best_accuracy": {target: _rounded(accuracy) for target, accuracy in best.iter_rows()},
        "smallest_fraction": {
            f"{source} for {target}, {method}, {mode}": _rounded(fraction)
            for source, target, method, mode, fraction in results["pruning_savings"]
            .select("source", "target", "method", "mode", "keep_fraction")
            .iter_rows()
        },
        "languages": {
            "mean_regret_of_first_source": _rounded(first["regret"].mean()),
            "mean_absolute_error": {model: _rounded(miss) for model, miss in misses.iter_rows()},
        },
    }


def agreement(table: pl.DataFrame) -> pl.DataFrame:
    """Return metric (with the kind of accuracy it is compared with) and weighted_kendall, mean over targets, for DVC's plot."""
    named = table.with_columns(metric=pl.format("{}, {}", "metric", "mode")).drop_nulls("weighted_kendall")
    return named.group_by("metric").agg(pl.col("weighted_kendall").mean().round(6)).sort("metric")


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)
