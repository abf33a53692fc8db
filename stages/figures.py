"""The report's figures: pure functions from result tables to Altair charts, hoverable, sized by the page."""

from __future__ import annotations

from typing import Any, TypeAlias

import altair as alt
import polars as pl

Figure: TypeAlias = alt.LayerChart | alt.FacetChart

HEIGHT = 260  # pixels of one panel
NEUTRAL = "#7a8896"  # seen on white and on black
LABEL_TICKS = [m * 10**power for power in range(1, 7) for m in (1, 3)]
PANEL = 250  # width of one panel of several, pixels


def _data(frame: pl.DataFrame) -> alt.Data:
    return alt.Data(values=frame.to_dicts())


def _column(name: str, title: str, kind: str = "Q", **scale: Any) -> dict[str, Any]:
    return {"shorthand": f"{name}:{kind}", "title": title, **({"scale": alt.Scale(**scale)} if scale else {})}


def head_accuracy(finetuned: pl.DataFrame) -> Figure:
    """Return a heatmap of the accuracy of a linear head on frozen features, encoder by target, the best encoders first."""
    mean = (
        finetuned.filter(pl.col("mode") == "linear")
        .group_by("encoder", "target")
        .agg(pl.col("accuracy").mean().round(4))
        .sort("encoder", "target")
    )
    order = mean.group_by("encoder").agg(pl.col("accuracy").mean()).sort("accuracy", "encoder", descending=[True, False])
    base = alt.Chart(_data(mean)).encode(
        x=alt.X(**_column("target", "target", "N"), axis=alt.Axis(labelAngle=0)),
        y=alt.Y(**_column("encoder", "encoder", "N"), sort=order["encoder"].to_list()),
        tooltip=["encoder:N", "target:N", "accuracy:Q"],
    )
    cells = base.mark_rect().encode(color=alt.Color(**_column("accuracy", "accuracy", scheme="viridis")))
    # Viridis is dark at its low end: white letters there, black ones above the middle of the range.
    middle = 0.0 if mean.is_empty() else (float(mean["accuracy"].min()) + float(mean["accuracy"].max())) / 2  # type: ignore[arg-type]
    ink = alt.condition(f"datum.accuracy > {middle}", alt.value("black"), alt.value("white"))
    text = base.mark_text().encode(text=alt.Text("accuracy:Q", format=".2f"), color=ink)
    return (cells + text).properties(width=2 * PANEL, height=HEIGHT)


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
        alt.Chart(_data(points))
        .mark_point(size=70, filled=True, opacity=0.85)
        .encode(
            x=alt.X(**_column("score", metric, zero=False), axis=alt.Axis(tickCount=5, labelFlush=False)),
            y=alt.Y(**_column("accuracy", "fine-tuned accuracy", zero=False)),
            color=alt.Color(**_column("encoder", "encoder", "N")),
            shape=alt.Shape(**_column("mode", "fine-tuning", "N")),
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
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y(**_column("metric", "metric", "N")),
        color=alt.Color(**_column("mode", "fine-tuning", "N")),
        yOffset=alt.YOffset("mode:N"),
        tooltip=["metric:N", "mode:N", "weighted_kendall:Q", "ci_low:Q", "ci_high:Q", "n_encoders:Q"],
    )
    interval = base.mark_rule().encode(
        x=alt.X(
            **_column("ci_low", "weighted Kendall, 95% interval", domain=[-1, 1]), axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1])
        ),
        x2=alt.X2("ci_high:Q"),
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("weighted_kendall:Q"))
    return (interval + point).properties(width=PANEL, height=HEIGHT).facet(facet=alt.Facet("target:N", title=None), columns=3)


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
    base = alt.Chart(_data(mean)).encode(
        x=alt.X(**_column("keep_fraction", "share of the source's groups kept", domain=[0, 1])),
        color=alt.Color(**_column("method", "method", "N")),
        tooltip=["method:N", "keep_fraction:Q", "accuracy:Q", "low:Q", "high:Q", "pretrain_steps:Q"],
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=60)).encode(
        y=alt.Y(**_column("accuracy", "accuracy on the target", zero=False))
    )
    spread = base.mark_rule().encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    return (spread + line).properties(width=2 * PANEL, height=HEIGHT).facet(facet=alt.Facet("pair:N", title=None), columns=2)


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
    base = alt.Chart(_data(mean)).encode(
        x=alt.X(**_column("m", "training labels", type="log", nice=False), axis=alt.Axis(values=LABEL_TICKS)),
        color=alt.Color(**_column("head", "head", "N"), legend=alt.Legend(symbolOpacity=1)),
    )
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    line = base.mark_line(point=True).encode(
        y=alt.Y(**_column("mean", "test error")), tooltip=["head:N", "m:Q", "mean:Q", "low:Q", "high:Q"]
    )
    crossing = base.mark_rule(strokeDash=[4, 4]).encode(
        x=alt.X("min(m_star):Q"),
        color=alt.value(NEUTRAL),
        tooltip=[alt.Tooltip("min(m_star):Q", title="crossing", format=".0f")],
    )
    return (
        (band + line + crossing).properties(width=PANEL, height=HEIGHT).facet(facet=alt.Facet("panel:N", title=None), columns=3)
    )


def transfer_matrix(pairs: pl.DataFrame) -> Figure:
    """Return the zero-shot score from every source to every target language, one panel a task, best sources first."""
    mean = (
        pairs.filter(pl.col("n_shots") == 0)
        .group_by("task", "source", "target")
        .agg(pl.col("score").mean().round(4))
        .sort("task", "source", "target")
    )
    order = mean.group_by("source").agg(pl.col("score").mean()).sort("score", "source", descending=[True, False])["source"]
    return (
        alt.Chart(_data(mean))
        .mark_rect()
        .encode(
            x=alt.X(**_column("target", "target", "N"), sort=order.to_list(), axis=alt.Axis(labelAngle=0)),
            y=alt.Y(**_column("source", "source", "N"), sort=order.to_list()),
            color=alt.Color(**_column("score", "score", scheme="viridis")),
            tooltip=["task:N", "source:N", "target:N", "score:Q"],
        )
        .properties(width=1.5 * PANEL, height=1.4 * HEIGHT)
        .facet(facet=alt.Facet("task:N", title=None), columns=2)
    )


def language_effects(effects: pl.DataFrame) -> Figure:
    """Return the standardised effects of pair features on transfer with their 95% intervals, one panel a task."""
    base = alt.Chart(_data(effects)).encode(
        y=alt.Y(**_column("term", "feature of the pair", "N")),
        tooltip=["task:N", "term:N", "beta_standardised:Q", "ci_low:Q", "ci_high:Q", "p_value:Q", "vif:Q"],
    )
    interval = base.mark_rule(color=NEUTRAL).encode(x=alt.X(**_column("ci_low", "standardised effect")), x2=alt.X2("ci_high:Q"))
    point = base.mark_point(filled=True, size=60, opacity=1, color=NEUTRAL).encode(x=alt.X("beta_standardised:Q"))
    return (
        (interval + point).properties(width=1.5 * PANEL, height=HEIGHT).facet(facet=alt.Facet("task:N", title=None), columns=2)
    )
