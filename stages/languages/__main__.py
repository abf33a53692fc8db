"""Explain and predict transfer, choose sources, and tell what target examples bring, from the measured table.

python -m stages.languages
"""

from __future__ import annotations

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.languages.choose import compare_choices, rank_sources
from stages.languages.explain import effects
from stages.languages.fewshot import fewshot_curve
from stages.languages.predict import leave_one_target_out, quality
from stages.params import Params


def main(settings: Params, name: str = "") -> None:
    """Write `language_effects`, `language_predictions`, `source_languages` and `fewshot_curves`."""
    pairs = tables.load("language_pairs")
    explained = effects(pairs)
    predictions = leave_one_target_out(pairs)
    ranked = rank_sources(predictions)
    # What target examples add to a source that nobody would take is of no use: the curves are those of the source ranked first.
    chosen = ranked.filter(pl.col("rank") == 1).select("task", "target", "source")
    curves = fewshot_curve(pairs.join(chosen, on=["task", "target", "source"], how="semi"), goal=settings.languages.goal)

    tables.write("language_effects", explained.table)
    tables.write("language_predictions", predictions)
    tables.write("source_languages", ranked)
    tables.write("fewshot_curves", curves)

    for note in explained.notes:
        print(f"languages: {note}")
    for task, r2 in explained.r2.items():
        print(f"languages: {task}: features explain R2 {r2:.2f} of the zero-shot scores")
    for row in quality(predictions).iter_rows(named=True):
        covered = "no interval" if row["coverage"] is None else f"interval covers {row['coverage']:.2f}"
        print(f"languages: {row['task']}: {row['model']:22} MAE {row['mae']:.3f}  R2 {row['r2']:.2f}  {covered}")
    for row in compare_choices(pairs, ranked).iter_rows(named=True):
        print(f"languages: {row['task']}: choosing by {row['rule']:18} costs {row['mean_regret']:.3f} of macro-F1")


if __name__ == "__main__":
    entry.run("languages", main)
