"""The report's sections: for each answer one sentence with its number, and the figures that show it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from stages import figures
from stages.figures import Figure
from stages.params import Params
from stages.prune import smallest_fraction
from stages.questions import ENCODER

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
        _probe(results),
        _languages(results),
    ]


def _mean(values: pl.Series, digits: int = 3) -> str:
    present = values.drop_nulls().to_list()
    return f"{sum(present) / len(present):.{digits}f}" if present else "(not defined)"


def _rank(settings: Params, results: Results) -> Section:
    metric, scores, finetuned = settings.recommend.metric, results["transferability"], results["finetuned"]
    trust = results["agreement"].filter(pl.col("metric") == metric)
    sentence = (
        f"Over {scores['target'].n_unique()} targets, {metric} agrees with fine-tuned accuracy at a mean weighted Kendall "
        f"of {_mean(trust['weighted_kendall'])}; its first pick costs {_mean(trust['top1_regret'], 4)} of accuracy on average."
    )
    charts = (figures.score_against_accuracy(scores, finetuned, metric), figures.agreement(results["agreement"]))
    return Section("rank", "Which encoder, which layer?", sentence, charts)


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
    parts = []
    for row in smallest_fraction(outcomes, tolerance).iter_rows(named=True):
        fraction = row["keep_fraction"]
        parts.append(
            f"{row['method']} " + ("at no fraction tried" if fraction is None else f"with {fraction:.0%} of the classes")
        )
    full = _mean(outcomes.filter(pl.col("method") == "full")["downstream_accuracy"])
    sentence = f"The full source gives {full}; on average over seeds, within {tolerance} of it: {', '.join(parts)}."
    return Section("prune", heading, sentence, (figures.pruning(outcomes),))


def _probe(results: Results) -> Section:
    crossover, recommendations = results["probe_crossover"], results["recommendations"]
    regimes = crossover["regime"].value_counts().sort("count", "regime", descending=[True, False])
    counted = ", ".join(f"{row['regime'].replace('_', ' ')} {row['count']}" for row in regimes.iter_rows(named=True))
    sentence = f"Of {len(crossover)} pairs of encoder and target: {counted}."
    crossing = crossover["m_star"].drop_nulls()
    if len(crossing):
        middle = sorted(crossing.to_list())[len(crossing) // 2]
        sentence += f" Where the curves cross, the median crossing is at {middle:.0f} labels."
    chosen = recommendations.filter(pl.col("question") == ENCODER)
    picked = {row["target"]: row["answer"].partition(", layer ")[0] for row in chosen.iter_rows(named=True)}
    chart = figures.probe_curves(results["probe_curves"], crossover, picked)
    return Section("probe", "Naive Bayes or logistic regression?", sentence, (chart,))


def _languages(results: Results) -> Section:
    first = results["source_languages"].filter(pl.col("rank") == 1)
    sentence = (
        f"The source that is predicted best, without any measurement on the target, scores {_mean(first['regret'])} below the "
        f"best source on average over {len(first)} pairs of task and target."
    )
    charts = (figures.transfer_matrix(results["language_pairs"]), figures.language_effects(results["language_effects"]))
    return Section("languages", "Which source language?", sentence, charts)
