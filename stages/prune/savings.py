"""How small may the source become before the target suffers?"""

from __future__ import annotations

import polars as pl
from scipy import stats

CONFIDENCE = 0.95
SCHEMA = {
    "source": pl.String,
    "target": pl.String,
    "method": pl.String,
    "keep_fraction": pl.Float64,
    "accuracy_gap": pl.Float64,
    "gap_low": pl.Float64,
    "gap_high": pl.Float64,
    "steps_saved": pl.Float64,
}


def smallest_fraction(outcomes: pl.DataFrame, tolerance: float) -> pl.DataFrame:
    """Return, for each pair and pruning method, the smallest kept fraction that is as good as the full source.

    As good means: the accuracy after pre-training on the full source exceeds that after pre-training on what is
    kept by at most `tolerance`, on average over seeds, and does so at every larger fraction tried with the method:
    one lucky draw below worse ones is no answer. Runs of one seed start from the same weights, so the gaps are
    paired; their interval is Student's t over seeds.

    Args:
        outcomes: rows of the table `pruning_outcomes`.
        tolerance: accuracy, 0 to 1.

    Returns:
        source, target, method, sorted by them; keep_fraction, and of the runs at that fraction: accuracy_gap
        (mean; below 0 where pruning helped), gap_low and gap_high (95% interval; null with a single seed),
        steps_saved (share of the full source's optimiser steps, 0 to 1). All null where no fraction is as good.
    """
    pair = ["source", "target"]
    full = outcomes.filter(pl.col("method") == "full").select(*pair, "seed", full_steps="pretrain_steps")
    gaps = (
        outcomes.filter(~pl.col("method").is_in(["full", "none"]))
        .join(full, on=[*pair, "seed"], how="left")
        .with_columns(
            gap=pl.col("full_source_accuracy") - pl.col("downstream_accuracy"),
            saved=1 - pl.col("pretrain_steps") / pl.col("full_steps"),
        )
    )
    per_fraction = gaps.group_by(*pair, "method", "keep_fraction").agg(
        accuracy_gap=pl.col("gap").mean(),
        error=pl.col("gap").std() / pl.len().sqrt(),
        n=pl.len(),
        steps_saved=pl.col("saved").mean(),
    )
    # The sums above depend on the order of rows in their last bits; a gap that equals the tolerance must pass.
    good = (
        per_fraction.with_columns(passes=pl.col("accuracy_gap") <= tolerance + 1e-9)
        .sort("keep_fraction", descending=True)
        .filter(pl.col("passes").cast(pl.Int64).cum_min().over(*pair, "method") == 1)
        .sort("keep_fraction")
    )
    rows = []
    for key in gaps.select(*pair, "method").unique().sort(*pair, "method").iter_rows(named=True):
        fitting = good.filter(pl.all_horizontal(pl.col(name) == value for name, value in key.items()))
        rows.append({**key, **(_with_interval(fitting.row(0, named=True)) if len(fitting) else {})})
    return pl.DataFrame(rows, schema=SCHEMA).sort(*pair, "method")


def _with_interval(row: dict[str, float]) -> dict[str, float | None]:
    """Return the values of one fraction, with the interval of its mean gap."""
    half = None
    if row["n"] > 1:
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, row["n"] - 1)) * row["error"]
    gap = row["accuracy_gap"]
    return {
        "keep_fraction": row["keep_fraction"],
        "accuracy_gap": gap,
        "gap_low": None if half is None else gap - half,
        "gap_high": None if half is None else gap + half,
        "steps_saved": row["steps_saved"],
    }
