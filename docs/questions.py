"""Five questions to the result tables, as a marimo notebook: `marimo edit docs/questions.py`, or `python docs/questions.py`."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from stages.artifacts import tables

    mo.md("# Five questions\n\nOver `tables.load(...)` alone. Change a cell and ask your own; docs/tables.md has every column.")
    return mo, pl, tables


@app.cell
def _(mo, tables):
    _scores = tables.load("transferability")
    target = mo.ui.dropdown(_scores["target"].unique().sort().to_list(), value=_scores["target"].sort()[0], label="target")
    metric = mo.ui.dropdown(_scores["metric"].unique().sort().to_list(), value=_scores["metric"].sort()[0], label="metric")
    mo.vstack([mo.md("## 1. Which encoder for my target?"), target, metric])
    return metric, target


@app.cell
def _(metric, pl, tables, target):
    _truth = tables.load("finetuned").group_by("target", "encoder").agg(pl.col("accuracy").max().alias("best accuracy"))
    encoders = (
        tables.load("transferability")
        .filter((pl.col("target") == target.value) & (pl.col("metric") == metric.value))
        .join(_truth, on=["target", "encoder"], how="left")
        .select("rank", "encoder", "layer", "score", "best accuracy", "warning")
        .sort("rank", "encoder", "layer", nulls_last=True)
    )
    encoders  # noqa: B018  # a cell shows its last expression
    return (encoders,)


@app.cell
def _(mo, pl, tables):
    heads = (
        tables.load("probe_curves")
        .group_by("target", "encoder", "m", "head")
        .agg(pl.col("error").mean())
        .pivot("head", index=["target", "encoder", "m"], values="error")
        .with_columns((pl.col("logistic") - pl.col("naive_bayes")).alias("naive Bayes is ahead by"))
        .filter(pl.col("naive Bayes is ahead by") > 0)
        .group_by("target", "encoder")
        .agg(
            pl.col("m").min().alias("from labels"),
            pl.col("m").max().alias("to labels"),
            pl.col("naive Bayes is ahead by").max(),
        )
        .sort("target", "encoder")
    )
    mo.vstack([mo.md("## 2. Where does naive Bayes win?"), heads])
    return (heads,)


@app.cell
def _(mo, pl, tables):
    classes = (
        tables.load("pruning_scores")
        .filter(pl.col("rank") <= 10)
        .select("source", "target", "method", "rank", "group", "score", "n_images")
        .sort("source", "target", "method", "rank")
    )
    mo.vstack([mo.md("## 3. Which source classes matter?"), classes])
    return (classes,)


@app.cell
def _(mo, pl, tables):
    languages = (
        tables.load("source_languages")
        .filter(pl.col("rank") == 1)
        .select("task", "target", "source", "predicted", "measured", "regret")
        .sort("task", "target")
    )
    mo.vstack([mo.md("## 4. Which source language?"), languages])
    return (languages,)


@app.cell
def _(mo, pl, tables):
    trust = (
        tables.load("metric_verdicts")
        .filter(pl.col("aspect") == "all")
        .select("place", "metric", "verdict", "weighted_kendall", "ci_low", "ci_high", "n_targets", "warning")
        .sort("place", "metric", nulls_last=True)
    )
    mo.vstack([mo.md("## 5. Is the metric to be trusted?"), trust])
    return (trust,)


if __name__ == "__main__":
    app.run()
