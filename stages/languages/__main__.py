"""Check, explain and predict transfer, choose sources, and tell what target examples bring, from the measured table.

python -m stages.languages
"""

from __future__ import annotations

import polars as pl

from stages import entry, seeds
from stages.artifacts import tables
from stages.languages.anchors import anchor_table
from stages.languages.choose import choices, rank_sources
from stages.languages.claims import contributions
from stages.languages.clusters import clusters, combined_distances
from stages.languages.explain import effects
from stages.languages.fewshot import fewshot_curve, laws, of_choice
from stages.languages.guards import warnings_of, without_broken
from stages.languages.predict import PROTOCOL, evaluate, model_names, predictions, quality
from stages.languages.source_sets import offers, source_sets
from stages.languages.summary import lines
from stages.params import Params


def main(settings: Params, name: str = "") -> None:
    """Write the tables on languages, one call each."""
    section, seed = settings.languages, settings.run.seed
    measured = tables.load("language_pairs")
    if measured.is_empty():
        for table, schema in tables.SCHEMAS.items():
            if schema.made_by == "languages":
                tables.write(table, tables.frame(table, []))
        return
    warnings = warnings_of(measured)
    pairs = without_broken(measured, warnings)

    explained = effects(pairs)
    groups, claims = contributions(pairs, seeds.generator(seed, "languages", "claims"))
    models = [known for known in model_names(pairs) if not section.models or known in section.models]
    evaluated = {protocol: evaluate(pairs, protocol=protocol, models=models, run_seed=seed) for protocol in section.protocols}
    predicted = pl.concat([predictions(found, protocol) for protocol, found in evaluated.items()])
    ranked = rank_sources(predicted, model=section.ranker)
    weights, distances = combined_distances(pairs)
    offered = offers(
        predicted, distances, model=section.ranker,
        targets=section.serve.targets, sources=section.serve.sources, costs=section.serve.costs,
    )  # fmt: skip
    made = {
        "language_warnings": warnings,
        "language_effects": explained.table,
        "language_groups": groups,
        "language_claims": claims,
        "language_predictions": predicted,
        "language_quality": quality(predicted),
        "language_anchors": anchor_table(evaluated[PROTOCOL], PROTOCOL, seeds.generator(seed, "languages", "anchors")),
        "language_choices": choices(pairs, predicted),
        "source_languages": ranked,
        "distance_weights": weights,
        "language_distances": distances,
        "language_clusters": clusters(distances),
        "source_sets": source_sets(
            offered,
            seeds.generator(seed, "languages", "sets"),
            budget=section.serve.budget,
            tolerance=section.serve.tolerance,
        ),
        # What target examples add to a source that nobody would take is of no use: the curves are those of the first source.
        "fewshot_curves": fewshot_curve(of_choice(pairs, ranked), goal=section.goal),
    }
    for table, frame in made.items():
        tables.write(table, frame)
    for line in lines(made, explained, section.protocols):
        print(f"languages: {line}")
    for row in laws(of_choice(pairs, ranked)).iter_rows(named=True):
        fits = ", ".join(f"{name} {row[f'r2_{name}'] or 0:.3f}" for name in ("log", "linear", "step"))
        tested = "" if row["tested"] is None else f"; beyond the measured it held for {row['held']} of {row['tested']} targets"
        print(f"languages: {row['task']}: R2 inside {row['n_targets']} targets of the few-shot laws: {fits}{tested}")


if __name__ == "__main__":
    entry.run("languages", main)
