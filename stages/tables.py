"""python -m stages.tables

Join the parts of the encoders that params.yaml names into the result tables, and add what only the whole can have: ranks,
scores of metrics that compare candidates, and the agreement of every metric with fine-tuned accuracy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import polars as pl

from stages import entry, seeds
from stages.artifacts import tables
from stages.params import Params
from stages.rank import METRICS, PoolMetric, Score, agreement

CANDIDATE = ["target", "encoder", "layer"]


def join_pools(parts: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """Replace the components that candidates left for metrics that compare them by those metrics' scores."""
    joined = [parts]
    for name in metrics:
        metric = METRICS[name]
        if not isinstance(metric, PoolMetric):
            continue
        components = pl.col("metric").str.starts_with(f"{name}:")
        for _, pool in joined[0].filter(components).sort(*CANDIDATE, "metric").group_by("target", maintain_order=True):
            candidates = [group for _, group in pool.group_by(CANDIDATE, maintain_order=True)]
            scores = metric.join(
                [
                    {row["metric"]: Score(row["score"], row["warning"], row["higher_is_better"]) for row in rows.to_dicts()}
                    for rows in candidates
                ],
                name,
            )
            for rows, score in zip(candidates, scores, strict=True):
                joined.append(
                    rows.head(1).with_columns(
                        pl.lit(name).alias("metric"),
                        pl.lit(score.value, dtype=pl.Float64).alias("score"),
                        pl.lit(score.warning, dtype=pl.String).alias("warning"),
                    )
                )
        joined[0] = joined[0].filter(~components)
    return pl.concat(joined)


def add_rank(scores: pl.DataFrame) -> pl.DataFrame:
    """Add `rank` within each target and metric: 1 is best, equals go by encoder and layer, no score has no rank."""
    better = pl.when("higher_is_better").then(-pl.col("score")).otherwise(pl.col("score"))
    return (
        scores.with_columns(better.alias("_order"))
        .sort("target", "metric", "_order", "encoder", "layer", nulls_last=True)
        .with_columns(pl.int_range(1, pl.len() + 1).over("target", "metric").alias("rank"))
        .with_columns(pl.when(pl.col("score").is_not_null()).then("rank").alias("rank"))
        .drop("_order")
    )


def agreements(scores: pl.DataFrame, finetuned: pl.DataFrame, layers: dict[str, str], run_seed: int) -> pl.DataFrame:
    """Compare each metric's scores with the accuracies, mean over seeds, for each target and mode.

    Args:
        scores: `transferability` rows.
        finetuned: `finetuned` rows.
        layers: encoder -> the layer whose score stands for it.
        run_seed: of the bootstrap, which draws the same encoders for every metric.
    """
    chosen = pl.DataFrame({"encoder": list(layers), "layer": list(layers.values())}, schema_overrides={"encoder": pl.String})
    scores = scores.join(chosen, on=["encoder", "layer"], how="semi")
    accuracies = finetuned.group_by("target", "mode", "encoder").agg(pl.col("accuracy").sort_by("seed").mean())
    rows: list[dict[str, Any]] = []
    pairs = scores.join(accuracies, on=["target", "encoder"], how="inner").sort("target", "metric", "mode", "encoder")
    for key, group in pairs.group_by("target", "metric", "mode", maintain_order=True):
        target, metric, mode = (str(part) for part in key)
        values = agreement(
            group["score"].to_list(),
            group["accuracy"].to_list(),
            higher_is_better=bool(group["higher_is_better"][0]),
            seed=seeds.integer_seed(run_seed, "agreement", target, mode),
        )
        rows.append({"target": target, "metric": metric, "mode": mode, **values})
    schema = {name: column.dtype for name, column in tables.SCHEMAS["agreement"].columns.items()}
    return pl.DataFrame(rows, schema=schema)


def main(settings: Params, name: str = "") -> None:
    """Write transferability, finetuned, agreement and the tables of the probe to data/results.

    Raises:
        InputProblem: an encoder's part is missing, damaged or of another schema version.
    """
    encoders = sorted(settings.encoders)
    transferability = add_rank(join_pools(tables.load_parts("transferability", encoders), settings.rank.metrics))
    finetuned = tables.load_parts("finetuned", encoders)
    layers = {encoder: settings.encoders[encoder].head_layer for encoder in encoders}
    agreed = agreements(transferability, finetuned, layers, settings.run.seed)
    tables.write("transferability", transferability)
    tables.write("finetuned", finetuned)
    tables.write("agreement", agreed)
    for table in ("probe_curves", "probe_crossover", "probe_assumptions"):
        tables.write(table, tables.load_parts(table, encoders))
    print(f"tables: {len(encoders)} encoders, {len(agreed)} agreements", file=sys.stderr)


if __name__ == "__main__":
    entry.run("tables", main)
