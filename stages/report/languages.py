"""The report on languages."""

from __future__ import annotations

import statistics

import polars as pl

from stages.languages.choose import compare_choices
from stages.languages.dendrogram import tree
from stages.languages.holdout import CHOSEN
from stages.languages.predict import PROTOCOL
from stages.params import Params
from stages.report.figure import Figure
from stages.report.language_figures import fewshot, language_effects, language_tree, predictions, transfer_matrix
from stages.report.section import Results, Section, mean


def section(settings: Params, results: Results) -> Section:
    """Return which source language, why, and what target examples bring."""
    pairs, ranked = results["language_pairs"], results["source_languages"]
    if pairs.is_empty():
        nothing = "No language was asked for: languages.tasks is empty in params.yaml, and there is no table."
        return Section("languages", "Which source language?", nothing, ())
    compared = compare_choices(pairs, ranked) if len(ranked) else pl.DataFrame()
    clauses = [
        _choices(str(task), rules) for (task,), rules in compared.group_by(["task"], maintain_order=True)
    ] if len(compared) else ["No source was predicted: there are too few languages."]  # fmt: skip
    goal = settings.languages.goal
    clauses += [_predicted(results["language_quality"]), _claims(results["language_claims"])]
    clauses += [_examples(results["fewshot_curves"], goal)]
    charts: list[Figure] = []
    found = tree(results["language_distances"], pairs)
    if found is not None:
        charts.append(transfer_matrix(pairs, found.order))
    if len(results["language_effects"]):
        charts.append(language_effects(results["language_effects"]))
    if len(results["language_predictions"]):
        charts.append(predictions(results["language_predictions"]))
    if results["fewshot_curves"]["slope_per_decade"].count():
        charts.append(fewshot(pairs, results["fewshot_curves"], goal))
    if found is not None:
        charts.append(language_tree(found))
    return Section("languages", "Which source language?", " ".join(filter(None, clauses)), tuple(charts))


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


def _predicted(quality: pl.DataFrame) -> str:
    """Say how far the predictions for a target that was held out are off, beside the global mean."""
    held_out = quality.filter(pl.col("split_protocol") == PROTOCOL)
    said = []
    for (task,), rows in held_out.group_by(["task"], maintain_order=True):
        of_model = {row["model"]: row for row in rows.iter_rows(named=True)}
        if CHOSEN in of_model and "global_mean" in of_model:
            chosen, flat = of_model[CHOSEN], of_model["global_mean"]
            covered = "" if chosen["coverage"] is None else f", 90% intervals cover {chosen['coverage']:.0%}"
            said.append(f"{task} {chosen['mae']:.3f} (global mean {flat['mae']:.3f}{covered})")
    return f"Mean absolute error of the prediction for a new target: {'; '.join(said)}." if said else ""


def _claims(claims: pl.DataFrame) -> str:
    """Say on which tasks typology tells more than words do."""
    alone = claims.filter(pl.col("measure") == "alone")
    said = [
        f"{verdict!s} on {', '.join(rows['task'])}" for (verdict,), rows in alone.group_by(["verdict"], maintain_order=True)
    ]
    claim = "That syntax, morphology and phonology tell more of transfer than lexical similarity is"
    return f"{claim} {'; '.join(said)}." if said else ""


def _examples(curves: pl.DataFrame, goal: float) -> str:
    """Say what target examples the goal takes on each task, and how well the law fits."""
    said = []
    for (task,), rows in curves.group_by(["task"], maintain_order=True):
        needed = rows["n_for_goal"].drop_nulls()
        fits = {name: rows[f"r2_{name}"].drop_nulls() for name in ("log", "linear", "step")}
        law = ", ".join(f"{name} {mean(values, 2)}" for name, values in fits.items())
        median = f"a median of {statistics.median(needed):,.0f}" if len(needed) else "no number"
        said.append(f"{task}: {median}, told for {len(needed)} of {len(rows)} targets (mean R2 {law})")
    return f"Target examples that a score of {goal:g} takes, by offset + slope log10(1 + n): {'; '.join(said)}." if said else ""
