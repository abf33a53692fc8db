"""The report on encoders and layers."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from stages.params import Params
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data
from stages.report.section import Results, Section, Table, mean, ranked_by
from stages.trust import ALL, BETTER

CANDIDATE = ["target", "encoder", "layer"]
PROFILE = 115  # width of an encoder's panel, pixels
SHOWN_DIGITS = 6  # significant, of a score in a figure


def section(settings: Params, results: Results) -> Section:
    """Return the answer to which encoder and layer."""
    by, scores, agreed = ranked_by(settings, results), results["transferability"], results["agreement"]
    layers = {name: encoder.head_layer for name, encoder in settings.candidates.items()}
    points = compared(scores, results["finetuned"], results["layer_probes"], layers)
    charts: list[Figure] = []
    if len(points):
        charts = [score_against_accuracy(points, agreed, sorted(set(by.values()))[0]), agreement(agreed)]
    if len(results["layer_profiles"]):
        charts.append(layer_profile(results["layer_profiles"]))
    tables = [_verdicts(results["metric_verdicts"])] if len(results["metric_verdicts"]) else []
    tables += [leaderboard(target, by[target], scores, points) for target in sorted(by)]
    said = f"{_trusted(results['metric_verdicts'])} {_agreed(by, agreed, len(layers))}"
    return Section("rank", "Which encoder, which layer?", said, tuple(charts), tuple(tables))


def _trusted(verdicts: pl.DataFrame) -> str:
    """Say which metrics can be trusted, over all targets."""
    judged = verdicts.filter(pl.col("aspect") == ALL).sort("place", "metric", nulls_last=True)
    if judged.is_empty():
        return "There are no accuracies to judge the metrics by."
    facts = judged.row(0, named=True)
    over = f"over {facts['n_targets']} targets and {max(judged['n_encoders'].to_list())} encoders"
    good = judged.filter(pl.col("verdict") == BETTER)
    if good.is_empty():
        return f"No metric of {len(judged)} is shown to agree with fine-tuning better than chance {over}."
    named = ", ".join(_tau(row["metric"], row["weighted_kendall"], row["ci_low"], row["ci_high"]) for row in good.to_dicts())
    return f"Better than chance {over}, of {len(judged)} metrics: {named}."


def _tau(name: str, value: float, low: float | None, high: float | None) -> str:
    return f"{name} {value:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")


def _agreed(by: Mapping[str, str], agreed: pl.DataFrame, encoders: int) -> str:
    """Say what following the chosen metrics costs, by mode of fine-tuning."""
    metric = pl.col("target").replace_strict(dict(by), default=None, return_dtype=pl.String)
    followed = agreed.filter(pl.col("metric") == metric).sort("mode", "target")
    clauses = [
        f"{mode} {mean(group['weighted_kendall'])}, first pick {mean(group['top1_regret'])} below the best, a random one "
        f"{mean(group['random_regret'])}"
        for (mode,), group in followed.group_by(["mode"], maintain_order=True)
    ]
    names = " and ".join(sorted(set(by.values())))
    if not clauses:
        return f"Ranked by {names}."
    return f"Ranked by {names}, {encoders} encoders, mean weighted Kendall and accuracy lost: {'; '.join(clauses)}."


def compared(scores: pl.DataFrame, finetuned: pl.DataFrame, probes: pl.DataFrame, layers: Mapping[str, str]) -> pl.DataFrame:
    """Return target, encoder, layer, mode, accuracy, metric, score: each encoder's head layer, in mode `layers` every layer.

    `layers` names each encoder's head layer, the one that the accuracies in `finetuned` are of.
    """
    heads = pl.DataFrame(
        {"encoder": list(layers), "layer": list(layers.values())}, schema=dict.fromkeys(("encoder", "layer"), pl.String)
    )
    truth = finetuned.group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean()).join(heads, on="encoder")
    tapped = probes.group_by(CANDIDATE).agg(pl.col("accuracy").mean()).with_columns(mode=pl.lit("layers"))
    columns = [*CANDIDATE, "mode", "accuracy"]
    both = pl.concat([truth.select(columns), tapped.join(heads, on=["encoder", "layer"], how="anti").select(columns)])
    found = both.join(scores.filter(pl.col("score").is_not_null()), on=CANDIDATE)
    return found.select(
        *columns[:-1], pl.col("accuracy").round(4), "metric", pl.col("score").round_sig_figs(SHOWN_DIGITS)
    ).sort(pl.all())


def score_against_accuracy(points: pl.DataFrame, agreed: pl.DataFrame, metric: str) -> Figure:
    """Return one panel a target: the scores of `points` by the metric chosen below the figure, with its correlations."""
    taus = agreed.filter(pl.col("weighted_kendall").is_not_null()).sort("target", "metric", "mode")
    said = taus.group_by("target", "metric", maintain_order=True).agg(
        said=pl.lit("tau ") + pl.format("{} {}", "mode", pl.col("weighted_kendall").round(2)).str.join(" · ")
    )
    first = pl.int_range(pl.len()).over("target", "metric") == 0  # one row a panel carries its text
    rows = points.join(said, on=["target", "metric"], how="left", maintain_order="left")
    rows = rows.with_columns(said=pl.when(first).then(pl.col("said")).fill_null(""))
    options = points["metric"].unique().sort().to_list()
    chosen = alt.param(
        name="metric", value=metric if metric in options else next(iter(options), ""),
        bind=alt.binding_select(options=options, name="metric "),
    )  # fmt: skip
    base = alt.Chart(data(rows)).transform_filter("datum.metric == metric")
    dots = base.mark_point(size=70, filled=True, opacity=0.85).encode(
        x=alt.X(**column("score", "score", zero=False), axis=alt.Axis(tickCount=5, labelFlush=False)),
        y=alt.Y(**column("accuracy", "fine-tuned accuracy", zero=False)),
        color=alt.Color(**column("encoder", "encoder", "N")),
        shape=alt.Shape(**column("mode", "accuracy of", "N")),
        tooltip=["target:N", "encoder:N", "layer:N", "mode:N", "metric:N", "score:Q", "accuracy:Q"],
    )
    text = base.mark_text(align="left", color=NEUTRAL).encode(x=alt.value(4), y=alt.value(-6), text="said:N")
    return (
        (dots + text)
        .add_params(chosen)
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("target:N", title=None), columns=3)
        .resolve_scale(x="independent", y="independent")
    )


def agreement(table: pl.DataFrame) -> Figure:
    """Return weighted Kendall of every metric with its bootstrap interval, one panel a target."""
    rows = table.filter(pl.col("weighted_kendall").is_not_null()).select(
        "target", "metric", "mode", "weighted_kendall", "ci_low", "ci_high", "n_encoders", "top1_regret"
    )
    base = alt.Chart(data(rows)).encode(
        y=alt.Y(**column("metric", "metric", "N")),
        color=alt.Color(**column("mode", "accuracy of", "N")),
        yOffset=alt.YOffset("mode:N"),
        tooltip=["metric:N", "mode:N", "weighted_kendall:Q", "ci_low:Q", "ci_high:Q", "n_encoders:Q", "top1_regret:Q"],
    )
    interval = base.mark_rule().encode(
        x=alt.X(
            **column("ci_low", "weighted Kendall, 95% interval", domain=[-1, 1]), axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1])
        ),
        x2=alt.X2("ci_high:Q"),
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("weighted_kendall:Q"))
    steps = max(1, rows["metric"].n_unique()) * max(1, rows["mode"].n_unique())
    return (
        (interval + point)
        .properties(width=PANEL, height=max(HEIGHT, 14 * steps))
        .facet(facet=alt.Facet("target:N", title=None), columns=3)
    )


def layer_profile(profiles: pl.DataFrame) -> Figure:
    """Return a column an encoder: the accuracy of a linear head, and where it is computed TMI below it, by depth."""
    shown = {"probe_accuracy": "1 linear head", "tmi": "2 TMI"}  # rows of panels are in the order of their names
    rows = profiles.with_columns(
        pl.col("probe_accuracy", "depth").round(4), pl.col("tmi", "tmi_per_dim").round_sig_figs(SHOWN_DIGITS)
    ).unpivot(
        list(shown), index=["encoder", "target", "layer", "depth", "d", "probe_low", "probe_high"],
        variable_name="measure", value_name="value",
    )  # fmt: skip
    rows = rows.filter(pl.col("value").is_not_null()).with_columns(pl.col("measure").replace(shown))
    rows = rows.sort("encoder", "target", "measure", "depth", "layer")
    tooltip = ["encoder:N", "target:N", "layer:N", "depth:Q", "d:Q", "value:Q", "probe_low:Q", "probe_high:Q"]
    line = (
        alt.Chart(data(rows))
        .mark_line(point=alt.OverlayMarkDef(size=50))
        .encode(
            x=alt.X(**column("depth", "depth", domain=[0, 1]), axis=alt.Axis(values=[0, 0.5, 1])),
            y=alt.Y(**column("value", "", zero=False)),
            color=alt.Color(**column("target", "target", "N"), legend=alt.Legend(symbolOpacity=1)),
            tooltip=tooltip,
        )
        .properties(width=PROFILE, height=0.6 * HEIGHT)
    )
    column_of = alt.Column("encoder:N", title=None)
    row_of = alt.Row("measure:N", title=None, header=alt.Header(labelExpr="substring(datum.label, 2)"))
    return line.facet(column=column_of, row=row_of).resolve_scale(y="independent")


def _verdicts(verdicts: pl.DataFrame) -> Table:
    ordered = verdicts.sort(pl.col("aspect") != ALL, "aspect", "level", "place", "metric", nulls_last=True)
    rows = ordered.select(
        pl.col("aspect").str.replace_all("_", " "),
        "level",
        "metric",
        "verdict",
        tau="weighted_kendall",
        low="ci_low",
        high="ci_high",
        p="p_adjusted",
        regret="top1_regret",
        random="random_regret",
        targets="n_targets",
        encoders="n_encoders",
    )
    return Table("verdicts", "Which metric to trust, for which kind of target", rows)


def leaderboard(target: str, metric: str, scores: pl.DataFrame, points: pl.DataFrame) -> Table:
    """Return all candidates for a target, in the order of `metric`: its score, accuracies, and their rank by every metric."""
    of_target = scores.filter(pl.col("target") == target)
    first = of_target.filter(pl.col("metric") == metric).select("encoder", "layer", "d", "rank", pl.col("score").alias(metric))
    ranks = of_target.select("encoder", "layer", pl.format("{} rank", "metric").alias("metric"), "rank")
    ranks = ranks.pivot("metric", index=["encoder", "layer"], values="rank", sort_columns=True)
    truth = points.filter(pl.col("target") == target).unique(["encoder", "layer", "mode"]).sort("mode")
    # Where every layer is a candidate, the head layers' linear accuracy is in mode `linear`.
    truth = truth.with_columns(mode=pl.col("mode").replace({"layers": "linear"}))
    wide = truth.pivot("mode", index=["encoder", "layer"], values="accuracy", sort_columns=True) if len(truth) else None
    rows = first if wide is None else first.join(wide, on=["encoder", "layer"], how="left")
    rows = rows.join(ranks, on=["encoder", "layer"], how="left").sort("rank", "encoder", "layer", nulls_last=True)
    return Table(f"leaderboard-{target}", f"All encoders and layers for {target}, by {metric}", rows.drop("rank"))
