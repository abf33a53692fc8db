"""The report on frozen features."""

from __future__ import annotations

import altair as alt
import polars as pl

from stages.params import Params
from stages.report.figure import HEIGHT, PANEL, Figure, column, data
from stages.report.section import Results, Section


def section(_settings: Params, results: Results) -> Section:
    """Return what frozen features give."""
    scores, finetuned = results["transferability"], results["finetuned"]
    linear = finetuned.filter(pl.col("mode") == "linear").group_by("target", "encoder").agg(pl.col("accuracy").mean())
    taps = scores.select("encoder", "layer").n_unique()
    sentence = f"{scores['encoder'].n_unique()} encoders were read at {taps} layers in all, each in one pass."
    if len(linear):
        best = linear.sort("accuracy", "encoder", descending=[True, False]).row(0, named=True)
        sentence += (
            f" A linear head on frozen features reaches {best['accuracy']:.3f} at best ({best['encoder']} on {best['target']})."
        )
    return Section("extract", "What do frozen features give?", sentence, (head_accuracy(finetuned),))


def head_accuracy(finetuned: pl.DataFrame) -> Figure:
    """Return a heatmap of the accuracy of a linear head on frozen features, encoder by target, the best encoders first."""
    mean = (
        finetuned.filter(pl.col("mode") == "linear")
        .group_by("encoder", "target")
        .agg(pl.col("accuracy").mean().round(4))
        .sort("encoder", "target")
    )
    order = mean.group_by("encoder").agg(pl.col("accuracy").mean()).sort("accuracy", "encoder", descending=[True, False])
    base = alt.Chart(data(mean)).encode(
        x=alt.X(**column("target", "target", "N"), axis=alt.Axis(labelAngle=0)),
        y=alt.Y(**column("encoder", "encoder", "N"), sort=order["encoder"].to_list()),
        tooltip=["encoder:N", "target:N", "accuracy:Q"],
    )
    cells = base.mark_rect().encode(color=alt.Color(**column("accuracy", "accuracy", scheme="viridis")))
    # Viridis is dark at its low end: white letters there, black ones above the middle of the range.
    middle = 0.0
    if not mean.is_empty():
        middle = (float(mean["accuracy"].min()) + float(mean["accuracy"].max())) / 2  # type: ignore[arg-type]  # no null is in it
    ink = alt.condition(f"datum.accuracy > {middle}", alt.value("black"), alt.value("white"))
    text = base.mark_text().encode(text=alt.Text("accuracy:Q", format=".2f"), color=ink)
    return (cells + text).properties(width=2 * PANEL, height=HEIGHT)
