"""The report on source data."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from stages.params import Params
from stages.prune.savings import smallest_fraction
from stages.report.figure import HEIGHT, PANEL, Figure, column, data
from stages.report.section import Results, Section, mean


def section(settings: Params, results: Results) -> Section:
    """Return how much source data can go."""
    outcomes, tolerance = results["pruning_outcomes"], settings.prune.tolerance
    heading = "How much source data can go?"
    if outcomes.is_empty():
        return Section("prune", heading, "No pair of source and target was asked for.", ())
    clauses = []
    for (source, target), kept in smallest_fraction(outcomes, tolerance).group_by(["source", "target"], maintain_order=True):
        of_pair = outcomes.filter((pl.col("source") == source) & (pl.col("target") == target) & (pl.col("method") == "full"))
        methods = ", ".join(_kept(row) for row in kept.iter_rows(named=True))
        clauses.append(
            f"{source} for {target}: the full source gives {mean(of_pair['downstream_accuracy'])}; "
            f"within {tolerance} of it, on average over seeds: {methods}."
        )
    return Section("prune", heading, " ".join(clauses), (pruning(outcomes),))


def _kept(row: dict[str, Any]) -> str:
    """Say what one method may leave out, from a row of `smallest_fraction`."""
    if row["keep_fraction"] is None:
        return f"{row['method']} at no fraction tried"
    interval = "" if row["gap_low"] is None else f" [{row['gap_low']:+.3f}, {row['gap_high']:+.3f}]"
    return f"{row['method']} with {row['keep_fraction']:.0%} of the groups (loss {row['accuracy_gap']:+.3f}{interval})"


def pruning(outcomes: pl.DataFrame) -> Figure:
    """Return downstream accuracy against the share of the source's groups kept, mean and range over seeds, by method."""
    mean = (
        outcomes.group_by("source", "target", "method", "keep_fraction")
        .agg(
            pl.col("pretrain_steps").mean().round(1),
            accuracy=pl.col("downstream_accuracy").mean().round(4),
            low=pl.col("downstream_accuracy").min(),
            high=pl.col("downstream_accuracy").max(),
        )
        .with_columns(pair=pl.format("{} for {}", "source", "target"))
        .sort("pair", "method", "keep_fraction")
    )
    base = alt.Chart(data(mean)).encode(
        x=alt.X(**column("keep_fraction", "share of the source's groups kept", domain=[0, 1])),
        color=alt.Color(**column("method", "method", "N")),
        tooltip=["method:N", "keep_fraction:Q", "accuracy:Q", "low:Q", "high:Q", "pretrain_steps:Q"],
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=60)).encode(
        y=alt.Y(**column("accuracy", "accuracy on the target", zero=False))
    )
    spread = base.mark_rule().encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    return (spread + line).properties(width=2 * PANEL, height=HEIGHT).facet(facet=alt.Facet("pair:N", title=None), columns=2)
