"""The report on source data."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from stages.params import Params
from stages.prune.savings import KEYS, half_width, paired_gaps
from stages.questions import CONTROLS, MODES
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data
from stages.report.section import Results, Section, mean

NAMED = 3  # methods in the sentence, those that need least, beside the controls
SHOWN = 8  # classes at either end of the order
PICTURE = 28  # pixels of a side
ROW = 32  # pixels from one class to the next
BOUNDS = {"full": "whole source", "none": "no source"}  # what the prunings lie between


def section(settings: Params, results: Results) -> Section:
    """Return how much source data can go; `results` may hold the pictures of `thumbnails` beside the tables."""
    outcomes, savings, tolerance = results["pruning_outcomes"], results["pruning_savings"], settings.prune.tolerance
    heading = "How much source data can go?"
    if outcomes.is_empty():
        return Section("prune", heading, "No pair of source and target was asked for.", ())
    clauses = []
    for (source, target), of_pair in savings.group_by(["source", "target"], maintain_order=True):
        parts = []
        for (mode,), kept in of_pair.group_by(["mode"], maintain_order=True):
            whole = outcomes.filter(
                pl.col("source") == source, pl.col("target") == target, pl.col("mode") == mode, pl.col("method") == "full"
            )
            control = pl.col("method").is_in(CONTROLS)
            best = kept.filter(~control).sort("keep_fraction", "method", nulls_last=True).head(NAMED)
            said = ", ".join(_kept(row) for row in pl.concat([best, kept.filter(control)]).iter_rows(named=True))
            parts.append(f"with {_mode(mode)} the full source gives {mean(whole['downstream_accuracy'])}, and enough is {said}")
        clauses.append(f"{source} for {target}: {'; '.join(parts)}.")
    rule = (
        f"Enough is the smallest share of the source's groups that stays within {tolerance} of the full source's accuracy, on "
        "average over seeds (in brackets its 95% interval). "
    )
    charts = [accuracy(outcomes), steps_saved(outcomes, tolerance)]
    pictures = results.get("thumbnails", pl.DataFrame())
    if len(pictures):
        charts = [votes(results["pruning_scores"], pictures), *charts]
    return Section("prune", heading, rule + " ".join(clauses), tuple(charts))


def _mode(mode: Any) -> str:
    return f"a {MODES[mode]}" if mode == "linear" else MODES.get(mode, str(mode))


def _kept(row: dict[str, Any]) -> str:
    """Say what one method may leave out, from a row of `pruning_savings`."""
    share = "none of those tried" if row["keep_fraction"] is None else f"{row['keep_fraction']:.0%}"
    low, high = row["fraction_low"], row["fraction_high"]
    interval = "" if low is None else f" [{low:.0%}]" if low == high else f" [{low:.0%} to {high:.0%}]"
    return f"{share}{interval} by {row['method']}"


def ends(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `pruning_scores` at either end of each order, of the methods that look at the data."""
    order = ["source", "target", "method"]
    last = pl.col("rank").max().over(order)
    shown = (pl.col("rank") <= SHOWN) | (pl.col("rank") > last - SHOWN)
    return scores.filter(~pl.col("method").is_in(CONTROLS)).filter(shown).sort(*order, "rank")


def votes(scores: pl.DataFrame, pictures: pl.DataFrame) -> Figure:
    """Return the score of the first and last source classes of each method with their pictures, one panel a method.

    Args:
        scores: rows of the table `pruning_scores`.
        pictures: columns source, group and image, as `thumbnails` gives them; classes without a picture are left out.
    """
    width = len(str(scores["rank"].max() or 0))
    rows = (
        ends(scores)
        .join(pictures, on=["source", "group"])
        .with_columns(
            panel=pl.format("{} for {} · {}", "source", "target", "method"),
            # The rank leads, padded, so that the names sort as the method does.
            name=pl.format("{} {}", pl.col("rank").cast(pl.String).str.pad_start(width), "group"),
        )
        .select("panel", "name", "group", "rank", "score", "n_images", "image")
        .sort("panel", "rank")
    )
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("name:N", title=None, axis=alt.Axis(offset=PICTURE + 8, domain=False, ticks=False)),
        tooltip=["group:N", "rank:Q", "score:Q", "n_images:Q"],
    )
    bars = base.mark_bar(color=NEUTRAL, height=ROW / 2).encode(
        x=alt.X(**column("score", "score: votes of target images, where it votes"), axis=alt.Axis(tickCount=4))
    )
    images = base.mark_image(width=PICTURE, height=PICTURE).encode(x=alt.value(-PICTURE / 2 - 4), url="image:N")
    return (
        (bars + images)
        .properties(width=PANEL, height=alt.Step(ROW))
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent", y="independent")
    )


def accuracy(outcomes: pl.DataFrame) -> Figure:
    """Return accuracy on the target against the share of groups kept: mean and range over seeds by method, one panel a mode.

    The whole source and none of it are horizontal lines.
    """
    rows = (
        outcomes.group_by(*KEYS, "keep_fraction")
        .agg(
            pl.col("pretrain_steps").mean().round(1),
            accuracy=pl.col("downstream_accuracy").mean().round(4),
            low=pl.col("downstream_accuracy").min(),
            high=pl.col("downstream_accuracy").max(),
        )
        .with_columns(panel=_panel(), bound=pl.col("method").replace_strict(BOUNDS, default=None))
        .sort("panel", "method", "keep_fraction")
    )
    plain = alt.Chart(data(rows)).encode(
        tooltip=["method:N", "keep_fraction:Q", "accuracy:Q", "low:Q", "high:Q", "pretrain_steps:Q"]
    )
    height = alt.Y(**column("accuracy", "accuracy on the target", zero=False))
    pruned = plain.transform_filter("datum.bound === null").encode(
        x=alt.X(**column("keep_fraction", "share of the source's groups kept", domain=[0, 1])),
        color=alt.Color(**column("method", "method", "N", scheme="tableau20"), legend=alt.Legend(symbolOpacity=1)),
    )
    band = pruned.mark_area(opacity=0.15).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    line = pruned.mark_line(point=alt.OverlayMarkDef(size=50)).encode(y=height)
    bounds = plain.transform_filter("datum.bound !== null").encode(y=height)
    rules = bounds.mark_rule(color=NEUTRAL, strokeDash=[5, 4])
    names = bounds.mark_text(color=NEUTRAL, align="left", dx=4, dy=-7).encode(x=alt.value(0), text="bound:N")
    return (
        (band + line + rules + names)
        .properties(width=1.4 * PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(y="independent")
    )


def steps_saved(outcomes: pl.DataFrame, tolerance: float) -> Figure:
    """Return accuracy against the whole source's, mean and 95% interval over seeds, by the share of steps saved."""
    rows = []
    for key, runs in paired_gaps(outcomes).group_by([*KEYS, "keep_fraction"], maintain_order=True):
        gap, half = runs["gap"].to_numpy(), half_width(runs["gap"].to_numpy())
        change = -float(gap.mean())
        rows.append(
            {
                **dict(zip([*KEYS, "keep_fraction"], key, strict=True)), "change": change,
                "low": None if half is None else change - half, "high": None if half is None else change + half,
                "saved": runs["saved"].mean(), "limit": -tolerance,
            }
        )  # fmt: skip
    numbers = ["keep_fraction", "change", "low", "high", "saved", "limit"]
    made = pl.DataFrame(rows, schema={**dict.fromkeys(KEYS, pl.String), **dict.fromkeys(numbers, pl.Float64)})
    made = made.with_columns(pl.col(numbers).round(4), panel=_panel()).sort("panel", "method", "keep_fraction")
    plain = alt.Chart(data(made))
    base = plain.encode(
        x=alt.X(**column("saved", "pre-training steps saved", domain=[0, 1]), axis=alt.Axis(format="%")),
        color=alt.Color(**column("method", "method", "N", scheme="tableau20"), legend=alt.Legend(symbolOpacity=1)),
        tooltip=["method:N", "keep_fraction:Q", "saved:Q", "change:Q", "low:Q", "high:Q"],
    )
    band = base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    line = base.mark_line(point=alt.OverlayMarkDef(size=50)).encode(
        y=alt.Y(**column("change", "accuracy against the whole source's", zero=True))
    )
    limit = plain.mark_rule(color=NEUTRAL, strokeDash=[5, 4]).encode(
        y=alt.Y("min(limit):Q"), tooltip=[alt.Tooltip("min(limit):Q", title="tolerance")]
    )
    return (
        (band + line + limit)
        .properties(width=1.4 * PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(y="independent")
    )


def _panel() -> pl.Expr:
    return pl.format("{} for {} · {}", "source", "target", pl.col("mode").replace(MODES))
