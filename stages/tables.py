"""DVC entry: `python -m stages.tables` joins the encoders' parts into the result tables, and adds what needs all of them."""

from __future__ import annotations

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.params import Params
from stages.rank.agreement import agreement
from stages.seeds import integer_seed


def main(settings: Params, _name: str) -> None:
    """Write transferability, finetuned, agreement, probe_curves and probe_crossover for the encoders in params.yaml."""
    encoders = list(settings.encoders)
    scores = with_ranks(tables.load_parts("transferability", encoders))
    finetuned = tables.load_parts("finetuned", encoders)
    tables.write("transferability", scores)
    tables.write("finetuned", finetuned)
    layers = {
        name: "pooled" if "pooled" in encoder.layers else encoder.layers[0] for name, encoder in settings.encoders.items()
    }
    tables.write("agreement", agreements(scores, finetuned, layers, settings.run.seed))
    for name in ("probe_curves", "probe_crossover"):
        tables.write(name, tables.load_parts(name, encoders))


def with_ranks(scores: pl.DataFrame) -> pl.DataFrame:
    """Add `rank` within (target, metric): 1 is the best score, ties go by encoder and layer, null scores get null."""
    signed = pl.when("higher_is_better").then(-pl.col("score")).otherwise(pl.col("score"))
    ordered = scores.with_columns(signed.alias("_order")).sort(
        "target", "metric", "_order", "encoder", "layer", nulls_last=True
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("target", "metric")
    return ordered.with_columns(pl.when(pl.col("score").is_not_null()).then(place).alias("rank")).drop("_order")


def agreements(scores: pl.DataFrame, finetuned: pl.DataFrame, layers: dict[str, str], seed: int) -> pl.DataFrame:
    """Compare each metric with accuracy, per target and mode.

    Args:
        scores: the `transferability` table.
        finetuned: the `finetuned` table.
        layers: encoder -> the layer whose features its head is fitted on, and whose score stands for the encoder.
        seed: of the bootstrap.
    """
    used = pl.DataFrame({"encoder": list(layers), "layer": list(layers.values())})
    truth = finetuned.group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean())
    joined = (
        scores.join(used, on=["encoder", "layer"])
        .join(truth, on=["target", "encoder"])
        .sort("target", "metric", "mode", "encoder")
    )
    rows = []
    for (target, metric, mode), group in joined.group_by(["target", "metric", "mode"], maintain_order=True):
        scored = group.filter(pl.col("score").is_not_null())
        compared = agreement(
            scored["score"], scored["accuracy"], higher_is_better=bool(group["higher_is_better"].all()),
            seed=integer_seed(seed, "agreement", str(target), str(mode)),
        )  # fmt: skip
        rows.append({"target": target, "metric": metric, "mode": mode, **compared})
    schema = {name: column.dtype for name, column in tables.SCHEMAS["agreement"].columns.items()}
    return pl.DataFrame(rows, schema_overrides=schema)


if __name__ == "__main__":
    entry.run("tables", main)
