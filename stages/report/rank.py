"""The report on encoders and layers."""

from __future__ import annotations

import altair as alt
import polars as pl

from stages.params import Params
from stages.report.figure import HEIGHT, PANEL, Figure, column, data
from stages.report.section import Results, Section, mean


def section(settings: Params, results: Results) -> Section:
    """Return the answer to which encoder and layer."""
    metric, scores, finetuned = settings.recommend.metric, results["transferability"], results["finetuned"]
    layers = {name: encoder.head_layer for name, encoder in settings.encoders.items()}
    trust = results["agreement"].filter(pl.col("metric") == metric)
    sentence = f"Over the head layers of {len(layers)} encoders, mean of {scores['target'].n_unique()} targets: " + "; ".join(
        f"{metric} agrees with {mode} fine-tuning at a weighted Kendall of {mean(group['weighted_kendall'])}, and its first "
        f"pick costs {mean(group['top1_regret'])} of accuracy"
        for (mode,), group in trust.sort("mode", "target").group_by(["mode"], maintain_order=True)
    )
    charts = (score_against_accuracy(scores, finetuned, metric, layers), agreement(results["agreement"]))
    return Section("rank", "Which encoder, which layer?", f"{sentence}.", charts)


def score_against_accuracy(scores: pl.DataFrame, finetuned: pl.DataFrame, metric: str, layers: dict[str, str]) -> Figure:
    """Return one panel a target: a metric's score of each encoder's head layer against its fine-tuned accuracy.

    `layers` names each encoder's head layer, the one that the accuracies are of.
    """
    heads = pl.DataFrame(
        {"encoder": list(layers), "layer": list(layers.values())}, schema=dict.fromkeys(("encoder", "layer"), pl.String)
    )
    truth = finetuned.group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean().round(4))
    points = scores.filter((pl.col("metric") == metric) & pl.col("score").is_not_null())
    points = points.join(heads, on=["encoder", "layer"], how="semi").join(truth, on=["target", "encoder"])
    points = points.select("target", "encoder", "layer", "mode", "score", "accuracy").sort(pl.all())
    return (
        alt.Chart(data(points))
        .mark_point(size=70, filled=True, opacity=0.85)
        .encode(
            x=alt.X(**column("score", metric, zero=False), axis=alt.Axis(tickCount=5, labelFlush=False)),
            y=alt.Y(**column("accuracy", "fine-tuned accuracy", zero=False)),
            color=alt.Color(**column("encoder", "encoder", "N")),
            shape=alt.Shape(**column("mode", "fine-tuning", "N")),
            tooltip=["target:N", "encoder:N", "layer:N", "mode:N", "score:Q", "accuracy:Q"],
        )
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("target:N", title=None), columns=3)
        .resolve_scale(x="independent", y="independent")
    )


def agreement(table: pl.DataFrame) -> Figure:
    """Return weighted Kendall of every metric with its bootstrap interval, one panel a target."""
    rows = table.filter(pl.col("weighted_kendall").is_not_null()).select(
        "target", "metric", "mode", "weighted_kendall", "ci_low", "ci_high", "n_encoders"
    )
    base = alt.Chart(data(rows)).encode(
        y=alt.Y(**column("metric", "metric", "N")),
        color=alt.Color(**column("mode", "fine-tuning", "N")),
        yOffset=alt.YOffset("mode:N"),
        tooltip=["metric:N", "mode:N", "weighted_kendall:Q", "ci_low:Q", "ci_high:Q", "n_encoders:Q"],
    )
    interval = base.mark_rule().encode(
        x=alt.X(
            **column("ci_low", "weighted Kendall, 95% interval", domain=[-1, 1]), axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1])
        ),
        x2=alt.X2("ci_high:Q"),
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("weighted_kendall:Q"))
    return (interval + point).properties(width=PANEL, height=HEIGHT).facet(facet=alt.Facet("target:N", title=None), columns=3)
