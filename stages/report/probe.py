"""The report on heads."""

from __future__ import annotations

import math
import statistics

import altair as alt
import polars as pl

from stages.params import Params
from stages.questions import picks
from stages.report.figure import HEIGHT, NEUTRAL, PANEL, Figure, column, data
from stages.report.section import Results, Section, ranked_by

LABEL_TICKS = [m * 10**power for power in range(1, 7) for m in (1, 3)]
FEW_PAIRS = 4  # of encoder and target, below which a rank correlation is left out
NAMES = {"naive_bayes": "naive Bayes", "logistic": "logistic regression"}
LAW_NAMES = {"log": "a + b ln n", "linear": "a + b n"}
DASHES = [[1, 0], [6, 4]]
STEPS = 40  # points of a drawn law


def section(settings: Params, results: Results) -> Section:
    """Return which head, from how many labels on, and why."""
    crossover, checked = results["probe_crossover"], results["probe_assumptions"]
    regimes = crossover["regime"].value_counts().sort("count", "regime", descending=[True, False])
    counted = ", ".join(f"{row['regime'].replace('_', ' ')} {row['count']}" for row in regimes.iter_rows(named=True))
    sentences = [f"On layer {settings.probe.layer}, of {len(crossover)} pairs of encoder and target: {counted}."]
    crossing = crossover["m_star"].drop_nulls().to_list()
    if crossing:
        sentences.append(f"Where the curves cross, the median crossing is at {statistics.median(crossing):.0f} labels.")
    sentences += [_assumed(checked), _simulated(results["sample_complexity"], results["sample_complexity_fits"])]
    first = picks(results["transferability"], ranked_by(settings, results))
    picked = {target: encoder for target, (encoder, _) in first.items()}
    charts = [probe_curves(results["probe_curves"], crossover, picked)] if picked else []
    charts += [
        assumptions(checked),
        variances(checked),
        simulation(results["sample_complexity"], results["sample_complexity_fits"]),
        bound(results["logistic_bound"]),
    ]
    return Section("probe", "Naive Bayes or logistic regression?", " ".join(filter(None, sentences)), tuple(charts))


def _assumed(checked: pl.DataFrame) -> str:
    """Say how far the features are from naive Bayes' assumption, and whether its losses go with that."""
    known = checked.with_columns(gap=pl.col("naive_bayes_error") - pl.col("logistic_error")).drop_nulls(
        ["divergence_per_dim", "gap"]
    )
    if known.is_empty():
        return ""
    divergences = known["divergence_per_dim"].to_list()
    low, high = min(divergences), max(divergences)
    said = f"Within classes the features are {low:.2f} to {high:.2f} nats a dimension from independence"
    together = known.select(pl.corr("divergence_per_dim", "gap", method="spearman")).item()
    if len(known) >= FEW_PAIRS and together is not None and math.isfinite(together):
        said += f"; the rank correlation with what naive Bayes loses on all labels is {together:+.2f} over {len(known)} pairs"
    return said + "."


def _simulated(found: pl.DataFrame, fits: pl.DataFrame) -> str:
    """Say, for the fewest and the most classes, what each head needed and which law describes it."""
    clauses = []
    classes = sorted(set(found["k"].to_list()))
    for k in sorted({*classes[:1], *classes[-1:]}):
        heads = []
        for head, name in NAMES.items():
            mine = found.filter((pl.col("k") == k) & (pl.col("head") == head)).sort("n_dims")
            needed = mine.filter(pl.col("m_of_mean").is_not_null())
            if needed.is_empty():
                continue
            first, last = needed.row(0, named=True), needed.row(-1, named=True)
            laws = fits.filter((pl.col("k") == k) & (pl.col("head") == head)).sort("law", descending=True)
            grows = laws.filter(pl.col("slope") > 0)
            r2 = " and ".join(
                f"{LAW_NAMES[str(law)]} {value:.2f}"
                for law, value in grows.select("law", "r2").iter_rows()
                if value is not None
            )
            heads.append(
                f"{name} {first['m_of_mean']:,} at n = {first['n_dims']:,} and {last['m_of_mean']:,} at {last['n_dims']:,}"
                + (f" (R2: {r2})" if r2 else ", without growth" if len(laws.drop_nulls("slope")) else "")
            )
        if heads:
            clauses.append(f"for {k} classes in n dimensions, {'; '.join(heads)}")
    return f"Simulated, the examples needed: {'. And '.join(clauses)}." if clauses else ""


def probe_curves(curves: pl.DataFrame, crossover: pl.DataFrame, picked: dict[str, str]) -> Figure:
    """Return error against labels, both heads, on the encoder picked for each target.

    Lines are means over the seeds, bands their range; the dashed rule is the crossing, the grey band behind it its
    bootstrap interval.
    """
    chosen = pl.DataFrame(
        {"target": list(picked), "encoder": list(picked.values())}, schema=dict.fromkeys(("target", "encoder"), pl.String)
    )
    marks = crossover.select("target", "encoder", "m_star", "ci_low", "ci_high")
    mean = (
        curves.join(chosen, on=["target", "encoder"])
        .group_by("target", "encoder", "head", "m")
        .agg(mean=pl.col("error").mean().round(4), low=pl.col("error").min(), high=pl.col("error").max())
        .join(marks, on=["target", "encoder"])
        .with_columns(panel=pl.format("{} · {}", "target", "encoder"), head=pl.col("head").replace(NAMES))
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
    interval = base.mark_rect(opacity=0.18).encode(
        x=alt.X("min(ci_low):Q"), x2=alt.X2("max(ci_high):Q"), color=alt.value(NEUTRAL)
    )
    crossing = base.mark_rule(strokeDash=[4, 4], size=2).encode(
        x=alt.X("min(m_star):Q"),
        color=alt.value(NEUTRAL),
        tooltip=[
            alt.Tooltip("min(m_star):Q", title="crossing", format=",.0f"),
            alt.Tooltip("min(ci_low):Q", title="from", format=",.0f"),
            alt.Tooltip("max(ci_high):Q", title="to", format=",.0f"),
        ],
    )
    return (
        (interval + band + line + crossing)
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("panel:N", title=None), columns=3)
        .properties(title="Test error by labels; dashed: where the curves cross, with its 95% interval")
    )


def assumptions(checked: pl.DataFrame) -> Figure:
    """Return, one panel a target, what naive Bayes loses to logistic regression against how far its assumption is."""
    rows = (
        checked.with_columns(
            gap=(pl.col("naive_bayes_error") - pl.col("logistic_error")).round(4),
            divergence=pl.col("divergence_per_dim").round(4),
            correlation=pl.col("mean_absolute_correlation").round(4),
            rank_share=pl.col("effective_rank_share").round(4),
            fewest=pl.col("winner_at_fewest").replace(NAMES).fill_null("tie"),
            most=pl.col("winner_at_most").replace(NAMES).fill_null("tie"),
        )
        .drop_nulls(["gap", "divergence"])
        .select("target", "encoder", "divergence", "gap", "correlation", "rank_share", "fewest", "most", "regime")
        .sort("target", "encoder")
    )
    base = alt.Chart(data(rows))
    points = base.mark_point(size=90, filled=True, opacity=0.9).encode(
        x=alt.X(**column("divergence", "divergence from independence, nats a dimension", zero=False)),
        y=alt.Y(**column("gap", "error of naive Bayes minus logistic's", nice=True)),
        color=alt.Color(**column("encoder", "encoder", "N")),
        shape=alt.Shape(**column("fewest", "ahead at the fewest labels", "N")),
        tooltip=[f"{name}:{'N' if rows.schema[name] == pl.String else 'Q'}" for name in rows.columns],
    )
    even = base.mark_rule(color=NEUTRAL, strokeDash=[4, 4]).encode(y=alt.datum(0))
    return (
        (even + points)
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("target:N", title=None), columns=3)
        .resolve_scale(x="independent", y="independent")
        .properties(title="On all labels, above the dashed line logistic regression won")
    )


def variances(checked: pl.DataFrame) -> Figure:
    """Return the distribution over the dimensions of the variance shared by the classes, one panel a target."""
    rows = (
        checked.drop_nulls("variance_q50")
        .select("target", "encoder", "variance_q05", "variance_q25", "variance_q50", "variance_q75", "variance_q95")
        .sort("target", "encoder")
    )
    base = alt.Chart(data(rows)).encode(
        y=alt.Y(**column("encoder", "encoder", "N")),
        tooltip=["target:N", "encoder:N", *(f"{name}:Q" for name in rows.columns if name.startswith("variance"))],
    )
    whole = base.mark_rule(color=NEUTRAL).encode(
        x=alt.X(**column("variance_q05", "shared variance", type="log"), axis=alt.Axis(format="~g", tickCount=5)),
        x2=alt.X2("variance_q95:Q"),
    )
    half = base.mark_bar(color=NEUTRAL, size=9).encode(x=alt.X("variance_q25:Q"), x2=alt.X2("variance_q75:Q"))
    middle = base.mark_tick(thickness=2, size=13, color="#d1495b").encode(x=alt.X("variance_q50:Q"))
    return (
        (whole + half + middle)
        .properties(width=PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("target:N", title=None), columns=3)
        .resolve_scale(x="independent")
        .properties(title="Within-class variance of the dimensions: 5, 25, 50, 75 and 95%")
    )


def simulation(found: pl.DataFrame, fits: pl.DataFrame) -> Figure:
    """Return examples needed against dimensions, one panel a head and number of classes, with both laws.

    Points are of the mean error over the seeds, rules the range of the seeds' own.
    """
    rows = (
        found.group_by("k", "n_dims", "head")
        .agg(m=pl.col("m_of_mean").first(), low=pl.col("m_to_epsilon").min(), high=pl.col("m_to_epsilon").max())
        .with_columns(pl.lit("measured").alias("law"))
        .sort("head", "k", "n_dims")
    )
    span = rows.group_by("k", "head").agg(first=pl.col("n_dims").min(), last=pl.col("n_dims").max())
    drawn = (
        fits.drop_nulls("slope")
        .join(span, on=["k", "head"])
        .join(pl.DataFrame({"step": range(STEPS + 1)}), how="cross")
        .with_columns(n_dims=pl.col("first") + (pl.col("last") - pl.col("first")) * pl.col("step") / STEPS)
        .with_columns(of=pl.when(pl.col("law") == "log").then(pl.col("n_dims").log()).otherwise(pl.col("n_dims")))
        .select("k", "head", "law", "n_dims", m=(pl.col("intercept") + pl.col("slope") * pl.col("of")).round(2))
        .with_columns(law=pl.col("law").replace(LAW_NAMES))
        .sort("head", "k", "law", "n_dims")
    )
    both = pl.concat([rows, drawn], how="diagonal_relaxed")
    panels = [_panel(head, k, fits) for head, k in both.select("head", "k").iter_rows()]
    both = both.with_columns(panel=pl.Series(panels, dtype=pl.String)).select("panel", "law", "n_dims", "m", "low", "high")
    across = max(min(found["k"].n_unique(), 4), 1)  # one row a head, as far as the page goes
    base = alt.Chart(data(both)).encode(x=alt.X(**column("n_dims", "dimensions n", zero=False, nice=False, padding=10)))
    measured = alt.datum.law == "measured"
    lines = (
        base.transform_filter(alt.datum.law != "measured")
        .mark_line()
        .encode(
            y=alt.Y(**column("m", "examples needed")),
            strokeDash=alt.StrokeDash(**column("law", "law", "N", domain=list(LAW_NAMES.values()), range=DASHES)),
            color=alt.Color(**column("law", "law", "N", domain=list(LAW_NAMES.values()))),
        )
    )
    spread = base.transform_filter(measured).mark_rule(color=NEUTRAL, size=2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    points = (
        base.transform_filter(measured)
        .mark_point(filled=True, size=60, opacity=1, color=NEUTRAL)
        .encode(y=alt.Y("m:Q"), tooltip=["panel:N", "n_dims:Q", "m:Q", "low:Q", "high:Q"])
    )
    return (
        (lines + spread + points)
        .properties(width=PANEL if across < 4 else 0.75 * PANEL, height=HEIGHT)
        .facet(facet=alt.Facet("panel:N", title=None), columns=across)
        .resolve_scale(y="independent")
        .properties(title="Examples to come within epsilon of Bayes error, simulated; rules: range of the seeds")
    )


def _panel(head: str, k: int, fits: pl.DataFrame) -> str:
    """Return the name of a panel of `simulation`, with R2 of both laws where they are known."""
    mine = fits.filter((pl.col("head") == head) & (pl.col("k") == k)).sort("law").drop_nulls("r2")
    r2 = ", ".join(
        f"{LAW_NAMES[str(law)].removeprefix('a + b ')} {value:.2f}" for law, value in mine.select("law", "r2").rows()
    )
    return f"{NAMES.get(head, head)}, K = {k}" + (f" · R² {r2}" if r2 else "")


def bound(fitted: pl.DataFrame) -> Figure:
    """Return excess error against excess logistic loss of every simulated logistic fit, below the bound and its square root."""
    rows = (
        fitted.filter((pl.col("excess_error") > 0) & (pl.col("excess_log_loss") > 0))
        .select(
            "k", "n_dims", "seed", "m", loss="excess_log_loss", error="excess_error", bound="error_bound",
            root=pl.min_horizontal((2 * pl.col("excess_log_loss")).sqrt(), 1.0),
        )
        .sort("loss", "k", "n_dims", "seed", "m")
    )  # fmt: skip
    axis, title = alt.Axis(format="~g", tickCount=5, grid=False), "error above the Bayes rule's"
    x = alt.X(**column("loss", "logistic loss above the Bayes rule's, nats", type="log"), axis=axis)
    base = alt.Chart(data(rows)).encode(x=x)
    points = base.mark_point(filled=True, size=22, opacity=0.55).encode(
        y=alt.Y(**column("error", title, type="log"), axis=axis),
        color=alt.Color(**column("k", "classes", "N")),
        tooltip=[f"{name}:Q" for name in rows.columns],
    )
    tight = base.mark_line(color=NEUTRAL, size=2).encode(y=alt.Y(**column("bound", title, type="log"), axis=axis))
    root = base.mark_line(color=NEUTRAL, strokeDash=[6, 4]).encode(y=alt.Y(**column("root", title, type="log"), axis=axis))
    return (points + tight + root).properties(
        width=2 * PANEL, height=HEIGHT, title="Every logistic fit of the simulation, its bound (line) and sqrt(2 loss) (dashed)"
    )
