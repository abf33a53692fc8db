"""The figures on languages: pure functions from result tables to Altair charts."""

from __future__ import annotations

import altair as alt
import polars as pl
from babel import Locale

from stages.languages.dendrogram import Tree
from stages.languages.fewshot import measured_points
from stages.languages.holdout import CHOSEN
from stages.languages.predict import PROTOCOL
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data

CELL = 11  # pixels of one language in the matrix
LEAF = 14  # pixels of one language in the tree
LEGIBLE = 60  # languages up to which every one is named at the matrix
TICKS = [0, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000]  # labels


def named(code: str) -> str:
    """Return a language's English name with its code."""
    name = Locale.parse("en").languages.get(code)
    return f"{name} ({code})" if name else code


def transfer_matrix(pairs: pl.DataFrame, order: list[str]) -> Figure:
    """Return the zero-shot score from every source to every target language, one panel a task, alike languages side by side."""
    mean = (
        pairs.filter((pl.col("n_shots") == 0) & pl.col("source").is_in(order) & pl.col("target").is_in(order))
        .group_by("task", "source", "target")
        .agg(pl.col("score").mean().round(3))
        .sort("task", "source", "target")
    )
    labels = alt.Axis(labelAngle=0, labelFontSize=8, labelOverlap=len(order) > LEGIBLE, ticks=False)
    side = max(1.2 * PANEL, CELL * len(order))
    return (
        alt.Chart(data(mean))
        .mark_rect()
        .encode(
            x=alt.X(**column("target", "target", "N"), sort=order, axis=labels),
            y=alt.Y(**column("source", "source", "N"), sort=order, axis=labels),
            color=alt.Color(**column("score", "score", scheme="viridis")),
            tooltip=["task:N", "source:N", "target:N", "score:Q"],
        )
        .properties(width=side, height=side)
        .facet(facet=alt.Facet("task:N", title=None), columns=2)
        .resolve_axis(x="independent", y="independent")  # else an odd number of tasks leaves axes without a panel
    )


def language_tree(found: Tree) -> Figure:
    """Return the dendrogram of the languages."""
    names = [named(code) for code in found.order]
    leaves = pl.DataFrame({"y": [float(place) for place in range(len(names))], "language": names})
    places = alt.Scale(domain=[-0.7, len(names) - 0.3], reverse=True, nice=False, zero=False)
    branches = (
        alt.Chart(data(found.segments))
        .mark_rule(color=NEUTRAL, strokeWidth=1.5, strokeCap="square")
        .encode(
            x=alt.X("x:Q", title=found.measure, scale=alt.Scale(reverse=True, zero=True, nice=True)),
            y=alt.Y("y:Q", axis=None, scale=places),
            x2="x2:Q",
            y2="y2:Q",
        )
    )
    labels = (
        alt.Chart(data(leaves))
        .mark_text(align="left", dx=6, fontSize=11)
        .encode(y=alt.Y("y:Q", axis=None, scale=places), x=alt.datum(0), text="language:N", color=alt.value(NEUTRAL))
    )
    return (branches + labels).properties(width=2 * PANEL, height=LEAF * len(names), padding={"right": 150})


def language_effects(effects: pl.DataFrame) -> Figure:
    """Return the standardised effects of pair features on transfer with their 95% intervals, one panel a task."""
    order = effects.group_by("term").agg(pl.col("beta_standardised").mean()).sort("beta_standardised", "term")["term"].to_list()
    shown = effects.with_columns(
        pl.col("beta_standardised", "ci_low", "ci_high", "p_value", "vif").round(4),
        sure=pl.when((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0)).then(pl.lit("yes")).otherwise(pl.lit("no")),
    )
    base = alt.Chart(data(shown)).encode(
        y=alt.Y(**column("term", "feature of the pair", "N"), sort=order[::-1]),
        color=alt.Color(
            "sure:N", title="interval leaves out 0", scale=alt.Scale(domain=["yes", "no"], range=["#3b82c4", NEUTRAL])
        ),
        tooltip=["task:N", "term:N", "beta_standardised:Q", "ci_low:Q", "ci_high:Q", "p_value:Q", "vif:Q"],
    )
    interval = base.mark_rule().encode(
        x=alt.X(**column("ci_low", "standardised effect, 95% interval"), axis=alt.Axis(tickCount=5)), x2=alt.X2("ci_high:Q")
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("beta_standardised:Q"))
    return (interval + point).properties(width=PANEL, height=HEIGHT).facet(facet=alt.Facet("task:N", title=None), columns=3)


def predictions(predicted: pl.DataFrame) -> Figure:
    """Return predicted against measured scores of targets that were held out, and the line where both are equal."""
    of_model = predicted.filter((pl.col("split_protocol") == PROTOCOL) & (pl.col("model") == CHOSEN))
    inside = pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high"))
    points = of_model.select(
        "task", "source", "target", pl.col("predicted", "score").round(3),
        interval=pl.when(inside).then(pl.lit("inside")).when(~inside).then(pl.lit("outside")).otherwise(pl.lit("none")),
    )  # fmt: skip
    kinds = alt.Scale(domain=["inside", "outside", "none"], range=["#3b82c4", "#d9603b", NEUTRAL])
    base = alt.Chart(data(points))
    dots = base.mark_point(filled=True, size=14, opacity=0.45).encode(
        x=alt.X(**column("predicted", "predicted, target held out", domain=[0, 1]), axis=alt.Axis(tickCount=5)),
        y=alt.Y(**column("score", "measured", domain=[0, 1]), axis=alt.Axis(tickCount=5)),
        color=alt.Color("interval:N", title="90% interval", scale=kinds, legend=alt.Legend(symbolOpacity=1)),
        tooltip=["task:N", "source:N", "target:N", "predicted:Q", "score:Q"],
    )
    corner = {"x": alt.datum(0), "y": alt.datum(0), "x2": alt.datum(1), "y2": alt.datum(1)}
    equal = base.transform_aggregate(n="count()").mark_rule(color=NEUTRAL, strokeDash=[4, 4]).encode(**corner)
    return (dots + equal).properties(width=PANEL, height=PANEL).facet(facet=alt.Facet("task:N", title=None), columns=3)


def fewshot(pairs: pl.DataFrame, curves: pl.DataFrame, goal: float) -> Figure:
    """Return score against target examples for each target's first source; the steepest and the flattest named."""
    several = curves.filter(pl.col("source").is_null())
    measured = [
        pairs.join(curves, on=["task", "target", "source"], how="semi"), pairs.join(several, on=["task", "target"], how="semi")
    ]  # fmt: skip
    points = (
        measured_points(pl.concat(measured))
        .group_by("task", "target", "n_shots")
        .agg(pl.col("score").mean().round(4))
        .join(curves.select("task", "target", "source"), on=["task", "target"])
    )
    lit = (
        curves.drop_nulls("slope_per_decade")
        .sort("task", "slope_per_decade", "target")
        .with_columns(place=pl.int_range(pl.len()).over("task"), last=pl.len().over("task") - 1)
        .filter((pl.col("place") == 0) | (pl.col("place") == pl.col("last")) | (pl.col("place") == pl.col("last") // 2))
        .with_columns(
            growth=pl.when(pl.col("place") == pl.col("last"))
            .then(pl.lit("steepest"))
            .when(pl.col("place") == 0)
            .then(pl.lit("flattest"))
            .otherwise(pl.lit("middle"))
        )
    )
    named_pair = pl.coalesce(pl.format("{} from {}", "target", "source"), "target")
    shown = (
        points.join(lit.select("task", "target", "growth"), on=["task", "target"], how="left")
        .with_columns(pl.col("growth").fill_null("others"), n=pl.col("n_shots") + 1, goal=pl.lit(goal))
        .with_columns(label=pl.when(pl.col("growth").is_in(["steepest", "flattest"])).then(named_pair))
        .sort("task", "target", "n_shots")
    )
    colours = alt.Scale(
        domain=["steepest", "middle", "flattest", "others"], range=["#3b82c4", "#2f9e6e", "#d9603b", NEUTRAL]
    )  # fmt: skip
    base = alt.Chart(data(shown))
    ticks = alt.Axis(values=[tick + 1 for tick in TICKS], labelExpr="format(datum.value - 1, ',')", grid=False)
    x = alt.X("n:Q", title="target examples", scale=alt.Scale(type="log", nice=False), axis=ticks)
    lines = base.mark_line(point=alt.OverlayMarkDef(size=14)).encode(
        x=x,
        y=alt.Y(**column("score", "score", domain=[0, 1])),
        detail="target:N",
        color=alt.Color("growth:N", title="growth", scale=colours, legend=alt.Legend(orient="bottom")),
        opacity=alt.condition("datum.growth == 'others'", alt.value(0.3), alt.value(1)),
        tooltip=["task:N", "target:N", "source:N", "n_shots:Q", "score:Q"],
    )
    ends = (
        base.transform_filter("isValid(datum.label)")
        .transform_joinaggregate(last="max(n)", groupby=["task", "target"])
        .transform_filter("datum.n == datum.last")
        .mark_text(align="left", dx=5, fontSize=10)
        .encode(x=x, y="score:Q", text="label:N", color="growth:N")
    )
    wanted = base.mark_rule(strokeDash=[4, 4], color=NEUTRAL).encode(y="mean(goal):Q")
    return (
        (lines + ends + wanted)
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("task:N", title=None), columns=3, spacing={"column": 70})
    )
