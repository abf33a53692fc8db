"""The report's sections: for each answer one sentence with its number, and the figures that show it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import polars as pl

from stages import figures
from stages.figures import Figure
from stages.languages.choose import compare_choices
from stages.params import Params
from stages.prune.savings import smallest_fraction
from stages.questions import picks

Results = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Section:
    """One answer."""

    key: str
    heading: str
    sentence: str
    charts: tuple[Figure, ...]


def sections(settings: Params, results: Results) -> list[Section]:
    """Return the five answers in the order in which a person asks."""
    return [
        _rank(settings, results),
        _extract(results),
        _prune(settings, results),
        _probe(settings, results),
        _languages(results),
    ]


def _mean(values: pl.Series, digits: int = 3) -> str:
    present = values.drop_nulls().to_list()
    return f"{sum(present) / len(present):.{digits}f}" if present else "(not defined)"


def _rank(settings: Params, results: Results) -> Section:
    metric, scores, finetuned = settings.recommend.metric, results["transferability"], results["finetuned"]
    layers = {name: encoder.head_layer for name, encoder in settings.encoders.items()}
    trust = results["agreement"].filter(pl.col("metric") == metric)
    sentence = f"Over the head layers of {len(layers)} encoders, mean of {scores['target'].n_unique()} targets: " + "; ".join(
        f"{metric} agrees with {mode} fine-tuning at a weighted Kendall of {_mean(group['weighted_kendall'])}, and its first "
        f"pick costs {_mean(group['top1_regret'])} of accuracy"
        for (mode,), group in trust.sort("mode", "target").group_by(["mode"], maintain_order=True)
    )
    charts = (figures.score_against_accuracy(scores, finetuned, metric, layers), figures.agreement(results["agreement"]))
    return Section("rank", "Which encoder, which layer?", f"{sentence}.", charts)


def _extract(results: Results) -> Section:
    scores, finetuned = results["transferability"], results["finetuned"]
    linear = finetuned.filter(pl.col("mode") == "linear").group_by("target", "encoder").agg(pl.col("accuracy").mean())
    taps = scores.select("encoder", "layer").n_unique()
    sentence = f"{scores['encoder'].n_unique()} encoders were read at {taps} layers in all, each in one pass."
    if len(linear):
        best = linear.sort("accuracy", "encoder", descending=[True, False]).row(0, named=True)
        sentence += (
            f" A linear head on frozen features reaches {best['accuracy']:.3f} at best ({best['encoder']} on {best['target']})."
        )
    return Section("extract", "What do frozen features give?", sentence, (figures.head_accuracy(finetuned),))


def _prune(settings: Params, results: Results) -> Section:
    outcomes, tolerance = results["pruning_outcomes"], settings.prune.tolerance
    heading = "How much source data can go?"
    if outcomes.is_empty():
        return Section("prune", heading, "No pair of source and target was asked for.", ())
    clauses = []
    for (source, target), kept in smallest_fraction(outcomes, tolerance).group_by(["source", "target"], maintain_order=True):
        of_pair = outcomes.filter((pl.col("source") == source) & (pl.col("target") == target) & (pl.col("method") == "full"))
        methods = ", ".join(_kept(row) for row in kept.iter_rows(named=True))
        clauses.append(
            f"{source} for {target}: the full source gives {_mean(of_pair['downstream_accuracy'])}; "
            f"within {tolerance} of it, on average over seeds: {methods}."
        )
    return Section("prune", heading, " ".join(clauses), (figures.pruning(outcomes),))


def _kept(row: dict[str, Any]) -> str:
    """Say what one method may leave out, from a row of `smallest_fraction`."""
    if row["keep_fraction"] is None:
        return f"{row['method']} at no fraction tried"
    interval = "" if row["gap_low"] is None else f" [{row['gap_low']:+.3f}, {row['gap_high']:+.3f}]"
    return f"{row['method']} with {row['keep_fraction']:.0%} of the groups (loss {row['accuracy_gap']:+.3f}{interval})"


def _probe(settings: Params, results: Results) -> Section:
    crossover = results["probe_crossover"]
    regimes = crossover["regime"].value_counts().sort("count", "regime", descending=[True, False])
    counted = ", ".join(f"{row['regime'].replace('_', ' ')} {row['count']}" for row in regimes.iter_rows(named=True))
    sentence = f"On layer {settings.probe.layer}, of {len(crossover)} pairs of encoder and target: {counted}."
    crossing = crossover["m_star"].drop_nulls().to_list()
    if crossing:
        sentence += f" Where the curves cross, the median crossing is at {statistics.median(crossing):.0f} labels."
    picked = {target: encoder for target, (encoder, _) in picks(results["transferability"], settings.recommend.metric).items()}
    chart = figures.probe_curves(results["probe_curves"], crossover, picked)
    return Section("probe", "Naive Bayes or logistic regression?", sentence, (chart,) if picked else ())


def _languages(results: Results) -> Section:
    pairs, ranked, effects = results["language_pairs"], results["source_languages"], results["language_effects"]
    compared = compare_choices(pairs, ranked) if len(ranked) else pl.DataFrame()
    clauses = [
        _choices(str(task), rules) for (task,), rules in compared.group_by(["task"], maintain_order=True)
    ] if len(compared) else ["No source was predicted: there are too few languages."]  # fmt: skip
    charts = [figures.transfer_matrix(pairs)]
    if len(effects):
        charts.append(figures.language_effects(effects))
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
