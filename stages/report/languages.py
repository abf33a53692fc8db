"""The report on languages."""

from __future__ import annotations

import altair as alt
import polars as pl

from stages.languages.choose import compare_choices
from stages.params import Params
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data
from stages.report.section import Results, Section


def section(_settings: Params, results: Results) -> Section:
    """Return which source language."""
    pairs, ranked, effects = results["language_pairs"], results["source_languages"], results["language_effects"]
    compared = compare_choices(pairs, ranked) if len(ranked) else pl.DataFrame()
    clauses = [
        _choices(str(task), rules) for (task,), rules in compared.group_by(["task"], maintain_order=True)
    ] if len(compared) else ["No source was predicted: there are too few languages."]  # fmt: skip
    charts = [transfer_matrix(pairs)]
    if len(effects):
        charts.append(language_effects(effects))
    return Section("languages", "Which source language?", " ".join(clauses), tuple(charts))


def _choices(task: str, rules: pl.DataFrame) -> str:
    """Say what each rule of choosing a source costs on one task, from the rows of `compare_choices`."""
    regret = dict(rules.select("rule", "mean_regret").iter_rows())
    parts = []
    if "model" in regret:
        parts.append(f"{regret['model']:.3f} by the predicted first source")
    if "english" in regret:
        parts.append(f"{regret['english']:.3f} by always taking English")
    near = sorted((value, rule.removeprefix("nearest_")) for rule, value in regret.items() if rule.startswith("nearest_"))
    if near:
        parts.append(f"{near[0][0]:.3f} to {near[-1][0]:.3f} by the nearest language ({near[0][1]} to {near[-1][1]} distance)")
    if "random" in regret:
        parts.append(f"{regret['random']:.3f} at random")
    return f"{task}, mean score lost against the best source over {rules['n_targets'][0]} targets: {', '.join(parts)}."


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
        alt.Chart(data(mean))
        .mark_rect()
        .encode(
            x=alt.X(**column("target", "target", "N"), sort=order.to_list(), axis=alt.Axis(labelAngle=0)),
            y=alt.Y(**column("source", "source", "N"), sort=order.to_list()),
            color=alt.Color(**column("score", "score", scheme="viridis")),
            tooltip=["task:N", "source:N", "target:N", "score:Q"],
        )
        .properties(width=1.5 * PANEL, height=1.4 * HEIGHT)
        .facet(facet=alt.Facet("task:N", title=None), columns=2)
    )


def language_effects(effects: pl.DataFrame) -> Figure:
    """Return the standardised effects of pair features on transfer with their 95% intervals, one panel a task."""
    base = alt.Chart(data(effects)).encode(
        y=alt.Y(**column("term", "feature of the pair", "N")),
        tooltip=["task:N", "term:N", "beta_standardised:Q", "ci_low:Q", "ci_high:Q", "p_value:Q", "vif:Q"],
    )
    interval = base.mark_rule(color=NEUTRAL).encode(x=alt.X(**column("ci_low", "standardised effect")), x2=alt.X2("ci_high:Q"))
    point = base.mark_point(filled=True, size=60, opacity=1, color=NEUTRAL).encode(x=alt.X("beta_standardised:Q"))
    return (
        (interval + point).properties(width=1.5 * PANEL, height=HEIGHT).facet(facet=alt.Facet("task:N", title=None), columns=2)
    )
