"""python -m stages.tables

Join the parts of the encoders that params.yaml names into the result tables, and add what only the whole can have: ranks,
scores of metrics that compare candidates, the agreement of every metric with fine-tuned accuracy, and which to trust.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import polars as pl

from stages import entry, seeds
from stages.artifacts import tables
from stages.artifacts.accuracies import accuracy_file, read_accuracies
from stages.params import Params
from stages.rank import METRICS, PoolMetric, Score
from stages.rank.compare import LAYERS, agreements, verdicts
from stages.trust import kinds

CANDIDATE = ["target", "encoder", "layer"]
GIVEN = "given"  # the mode of accuracies that the user brings


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


def pairs(scores: pl.DataFrame, finetuned: pl.DataFrame, probes: pl.DataFrame, layers: dict[str, str]) -> pl.DataFrame:
    """Return every candidate's score with every accuracy that it can be compared with, mean over seeds.

    Args:
        scores: `transferability` rows.
        finetuned: `finetuned` rows, of encoders.
        probes: `layer_probes` rows, of layers; with one layer an encoder they say nothing more than mode `linear`.
        layers: encoder -> the layer whose score stands for it.
    """
    chosen = pl.DataFrame(
        {"encoder": list(layers), "layer": list(layers.values())}, schema=dict.fromkeys(CANDIDATE[1:], pl.String)
    )
    mean = pl.col("accuracy").sort_by("seed").mean()
    truth = [finetuned.group_by("target", "mode", "encoder").agg(mean).join(chosen, on="encoder")]
    if probes["encoder"].n_unique() < probes.select("encoder", "layer").n_unique():
        truth.append(probes.group_by(CANDIDATE).agg(mean).with_columns(mode=pl.lit(LAYERS)))
    columns = ["target", "mode", "encoder", "layer", "accuracy"]
    found = scores.join(pl.concat(part.select(columns) for part in truth), on=CANDIDATE)
    return found.select(*columns, "metric", "score", "higher_is_better").sort(pl.all())


def profiles(scores: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `layer_profiles`: linear heads by depth, and what TMI says of the same layers."""
    accuracy = pl.col("accuracy").sort_by("seed")
    found = probes.group_by(CANDIDATE).agg(
        pl.col("depth", "d").first(), probe_accuracy=accuracy.mean(), probe_low=accuracy.min(), probe_high=accuracy.max()
    )
    for metric in ("tmi", "tmi_per_dim"):
        of_metric = scores.filter(pl.col("metric") == metric).select(*CANDIDATE, pl.col("score").alias(metric))
        found = found.join(of_metric, on=CANDIDATE, how="left")
    return found


def given(settings: Params) -> pl.DataFrame:
    """Return the rows of `finetuned` that the user's own file of accuracies makes; none without one."""
    schema = {name: column.dtype for name, column in tables.SCHEMAS["finetuned"].columns.items()}
    if settings.rank.accuracies is None:
        return pl.DataFrame(schema=schema)
    path = accuracy_file(settings.rank.accuracies, "params.yaml: rank.accuracies")
    found = read_accuracies(path, settings.candidates, settings.targets, "params.yaml")
    return pl.DataFrame([
        {"target": row["dataset"], "encoder": row["encoder"], "mode": GIVEN, "seed": 0, "accuracy": row["accuracy"]}
        for row in found.iter_rows(named=True)
    ], schema=schema)  # fmt: skip


def main(settings: Params, name: str = "") -> None:
    """Write transferability, finetuned, layer_probes and what follows from them, and the tables of the probe.

    Raises:
        InputProblem: an encoder's part is missing, damaged or of another schema version; the user's accuracies are wrong.
    """
    own = given(settings)
    encoders = sorted(settings.candidates)
    transferability = add_rank(join_pools(tables.load_parts("transferability", encoders), settings.rank.metrics))
    finetuned = pl.concat([tables.load_parts("finetuned", encoders), own])
    probes = tables.load_parts("layer_probes", encoders)
    compared = pairs(
        transferability, finetuned, probes, {encoder: settings.candidates[encoder].head_layer for encoder in encoders}
    )
    seed = partial(seeds.integer_seed, settings.run.seed)
    headless = set(transferability.filter(pl.col("n_source_classes").is_null())["encoder"])
    agreed = agreements(compared, seed)
    tables.write("transferability", transferability)
    tables.write("finetuned", finetuned)
    tables.write("layer_probes", probes)
    tables.write("layer_profiles", profiles(transferability, probes))
    tables.write("agreement", tables.frame("agreement", agreed))
    tables.write("metric_verdicts", tables.frame("metric_verdicts", verdicts(compared, kinds(transferability), headless, seed)))
    for table in ("probe_curves", "probe_crossover", "probe_assumptions"):
        tables.write(table, tables.load_parts(table, encoders))
    print(f"tables: {len(encoders)} encoders, {len(agreed)} agreements", file=sys.stderr)


if __name__ == "__main__":
    entry.run("tables", main)
