"""The report on heads."""

from __future__ import annotations

import statistics

import altair as alt
import polars as pl

from stages.params import Params
from stages.questions import picks
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data
from stages.report.section import Results, Section, ranked_by


def section(settings: Params, results: Results) -> Section:
    """Return which head, from how many labels on."""
    crossover = results["probe_crossover"]
    regimes = crossover["regime"].value_counts().sort("count", "regime", descending=[True, False])
    counted = ", ".join(f"{row['regime'].replace('_', ' ')} {row['count']}" for row in regimes.iter_rows(named=True))
    sentence = f"On layer {settings.probe.layer}, of {len(crossover)} pairs of encoder and target: {counted}."
    crossing = crossover["m_star"].drop_nulls().to_list()
    if crossing:
        sentence += f" Where the curves cross, the median crossing is at {statistics.median(crossing):.0f} labels."
    picked = {
        target: encoder for target, (encoder, _) in picks(results["transferability"], ranked_by(settings, results)).items()
    }
    chart = probe_curves(results["probe_curves"], crossover, picked)
    return Section("probe", "Naive Bayes or logistic regression?", sentence, (chart,) if picked else ())


LABEL_TICKS = [m * 10**power for power in range(1, 7) for m in (1, 3)]


def probe_curves(curves: pl.DataFrame, crossover: pl.DataFrame, picked: dict[str, str]) -> Figure:
    """Return error against labels, both heads, mean and range over seeds, on the encoder picked for each target."""
    chosen = pl.DataFrame(
        {"target": list(picked), "encoder": list(picked.values())}, schema=dict.fromkeys(("target", "encoder"), pl.String)
    )
    mean = (
        curves.join(chosen, on=["target", "encoder"])
        .group_by("target", "encoder", "head", "m")
        .agg(mean=pl.col("error").mean().round(4), low=pl.col("error").min(), high=pl.col("error").max())
        .join(crossover.select("target", "encoder", "m_star"), on=["target", "encoder"])
        .with_columns(panel=pl.format("{} · {}", "target", "encoder"))
        .sort("panel", "head", "m")
    )
    base = alt.Chart(data(mean)).encode(
        x=alt.X(**column("m", "training labels", type="log", nice=False), axis=alt.Axis(values=LABEL_TICKS)),
        color=alt.Color(**column("head", "head", "N"), legend=alt.Legend(symbolOpacity=1)),
    )
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    line = base.mark_line(point=True).encode(
        y=alt.Y(**column("mean", "test error")), tooltip=["head:N", "m:Q", "mean:Q", "low:Q", "high:Q"]
    )
    crossing = base.mark_rule(strokeDash=[4, 4]).encode(
        x=alt.X("min(m_star):Q"),
        color=alt.value(NEUTRAL),
        tooltip=[alt.Tooltip("min(m_star):Q", title="crossing", format=".0f")],
    )
    return (
        (band + line + crossing).properties(width=PANEL, height=HEIGHT).facet(facet=alt.Facet("panel:N", title=None), columns=3)
    )
