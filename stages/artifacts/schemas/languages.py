"""Tables of the family `languages`."""

from __future__ import annotations

import polars as pl

from stages.artifacts.schemas.schema import SEED, WARNING, Column, Schema, count, real, share, text

SCHEMAS: dict[str, Schema] = {
    "language_pairs": Schema(
        "How well does a task transfer from one language to another?",
        {
            "task": text("task"),
            "source": text("source language, ISO 639, or a mix of several with their examples: `en:1000+es:500`"),
            "target": text("target language, ISO 639"),
            "n_shots": count("labelled target examples added to the source's"),
            "seed": SEED,
        },
        {
            "score": share("score on the target's test examples; more is better"),
            "metric": text("what the score is; one in each task", nullable=True),
            "n_source": count("source training examples", nullable=True),
            "n_target": count("target test examples; unknown of a table of yours", nullable=True),
        },
        made_by="transfer",
        version=2,
        open_columns=True,
        may_be_empty=True,
    ),
    "language_effects": Schema(
        "Which language and data features go with good transfer?",
        {"task": text("task"), "term": text("feature of the pair")},
        {
            "beta_standardised": real("ordinary least squares, all columns standardised"),
            "ci_low": real("lower end of the 95% interval, errors clustered by target", nullable=True),
            "ci_high": real("upper end of the 95% interval, errors clustered by target", nullable=True),
            "p_value": share("two-sided, errors clustered by target", nullable=True),
            "vif": real("variance inflation factor", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_groups": Schema(
        "How much does each kind of feature say about transfer?",
        {"task": text("task"), "group": text("syntax, morphology, phonology, lexical, script, genetic, geographic or data")},
        {
            "n_terms": count("features of the group in the fit"),
            "r2_alone": share("adjusted R2 of the group's features and no others", nullable=True),
            "r2_dropped": share("R2 lost when the group leaves the fit of all features", nullable=True),
            "ci_low": real("2.5% quantile of r2_dropped over resampled target languages", nullable=True),
            "ci_high": real("97.5% quantile of r2_dropped over resampled target languages", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_claims": Schema(
        "Do syntax, morphology and phonology predict transfer better than lexical similarity?",
        {"task": text("task"), "measure": text("`alone`: adjusted R2 by itself; `dropped`: R2 lost without it")},
        {
            "typological": real("of syntax, morphology and phonology together", nullable=True),
            "lexical": real("of lexical similarity", nullable=True),
            "difference": real("typological less lexical", nullable=True),
            "ci_low": real("2.5% quantile of the difference over resampled target languages", nullable=True),
            "ci_high": real("97.5% quantile of the difference over resampled target languages", nullable=True),
            "verdict": text("`supported`, `contradicted`, `undecided` or `not testable`"),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_predictions": Schema(
        "What score is expected for a pair that nobody measured?",
        {
            "task": text("task"),
            "split_protocol": text(
                "what was held out: `leave_one_target_out`, `leave_one_family_out`, `seen_target` (a new source), or "
                "`optimistic` (single pairs at random)"
            ),
            "model": text(
                "predictor, baselines included; `chosen` is the one that errs least on other held-out units, "
                "`chosen_by_regret` the one whose first source costs least there"
            ),
            "source": text("source language"),
            "target": text("target language"),
        },
        {
            "score": share("measured zero-shot score, mean over seeds"),
            "predicted": share("prediction, clipped"),
            "interval_low": real("lower end of the 90% interval", nullable=True),
            "interval_high": real("upper end of the 90% interval", nullable=True),
            "in_set": Column(
                pl.Boolean,
                "in the set of sources that holds the target's best one with 90% coverage; null where the target was seen",
                nullable=True,
            ),
        },
        made_by="languages",
        may_be_empty=True,
        version=2,
    ),
    "language_quality": Schema(
        "How good are the predictions of each model, and how much does the protocol flatter?",
        {"task": text("task"), "split_protocol": text("what was held out"), "model": text("predictor")},
        {
            "n": count("pairs predicted"),
            "mae": real("mean absolute error of the score"),
            "r2": real("against the mean of the scores; null where they are all equal", nullable=True),
            "coverage": share("of the 90% intervals", nullable=True),
            "width": real("mean length of the intervals", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_anchors": Schema(
        "What do one to three measured sources of a new target tell about the others?",
        {
            "task": text("task"),
            "split_protocol": text("what was held out"),
            "model": text("predictor that is shifted"),
            "n_anchors": count("sources of the target that were measured"),
        },
        {
            "n_targets": count("targets asked"),
            "mae": real("mean absolute error on the target's other sources, mean over draws of anchors", nullable=True),
            "r2": real("against the mean of the scores", nullable=True),
            "coverage": share("of the 90% intervals", nullable=True),
            "width": real("mean length of the intervals", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_choices": Schema(
        "What does each rule of choosing a source language cost?",
        {
            "task": text("task"),
            "split_protocol": text("what the models had not seen"),
            "rule": text("model, `english`, `nearest_<distance>` or `random`"),
        },
        {
            "mean_regret": real("best score less the score of the rule's first source, mean over targets"),
            "ndcg_at_3": share(
                "gain of the rule's first three sources against the best order; null for one source", nullable=True
            ),
            "n_targets": count("targets for which every rule has an answer"),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "source_languages": Schema(
        "Which source language should one train on for a target?",
        {"task": text("task"), "target": text("target language"), "rank": count("1 is the source to take")},
        {
            "source": text("source language"),
            "predicted": share("score predicted without any pair of this target"),
            "interval_low": real("lower end of the 90% interval", nullable=True),
            "interval_high": real("upper end of the 90% interval", nullable=True),
            "measured": share("score measured zero-shot, mean over seeds"),
            "regret": share("best measured score of the target minus this source's"),
            "conformal_set": Column(pl.Boolean, "in the set that holds the best source with 90% coverage"),
        },
        made_by="languages",
        may_be_empty=True,
        version=2,
    ),
    "source_sets": Schema(
        "Which few source languages serve these targets, and at what cost?",
        {
            "task": text("task"),
            "rule": text(
                "`greedy`, `exact`, `cover` (cheapest within the tolerance), `nearest`, `english`, `strongest` or `random`"
            ),
            "budget": real("cost that the sources may have together"),
        },
        {
            "sources": text("the sources, by comma; null for the mean of random sets", nullable=True),
            "cost": real("of the sources together"),
            "n_targets": count("targets served"),
            "predicted": share("mean over targets of the best predicted score among the sources", nullable=True),
            "measured": share("mean over targets of the measured score of the source predicted best", nullable=True),
            "covered": share("share of the targets within the tolerance of their best predicted source", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "distance_weights": Schema(
        "Which distances make up the one that fits transfer best?",
        {"task": text("task"), "term": text("distance, or overlap turned round")},
        {"weight": Column(pl.Float64, "score that a standard deviation of it costs; never negative", low=0)},
        made_by="languages",
        may_be_empty=True,
    ),
    "language_distances": Schema(
        "How far is one language from another by the combined distance?",
        {"task": text("task"), "source": text("source language"), "target": text("target language")},
        {"distance": Column(pl.Float64, "weighted sum of the measures in units of score, the nearest pair at 0", low=0)},
        made_by="languages",
        may_be_empty=True,
    ),
    "language_clusters": Schema(
        "Which languages are alike?",
        {"task": text("task"), "language": text("language")},
        {
            "cluster": count("1 is the first along the dendrogram"),
            "place": count("leaf of the dendrogram, 1 is the first; neighbours are alike"),
            "medoid": Column(pl.Boolean, "nearest to the others of its cluster"),
            "silhouette": real("how much better the language fits its cluster than the next, -1 to 1", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_warnings": Schema(
        "What is wrong with the transfer table?",
        {
            "task": text("task"),
            "kind": text("`broken_source` (left out of all that follows), `saturated_task` or `target_out_of_range`"),
            "subject": text("language, * for the whole task"),
        },
        {"detail": text("what was found")},
        made_by="languages",
        may_be_empty=True,
    ),
    "fewshot_curves": Schema(
        "How many labelled target examples does a goal take?",
        {"task": text("task"), "target": text("target language")},
        {
            "source": text(
                "the source that the examples are added to, the one ranked first; null: mean of several", nullable=True
            ),
            "offset": real("score at no example by the curve", nullable=True),
            "slope_per_decade": real("gain for every tenfold of 1 + n, shrunk towards the task's other targets", nullable=True),
            "slope_low": real("lower end of the slope's 95% interval", nullable=True),
            "slope_high": real("upper end of the slope's 95% interval", nullable=True),
            "slope_alone": real("least squares of this target alone", nullable=True),
            "shrinkage": share("share of the way from the target's own slope to the mean of all", nullable=True),
            "r2_log": real("R2 of offset + slope log10(1 + n)", nullable=True),
            "r2_linear": real("R2 of a line in n", nullable=True),
            "r2_step": real("R2 of zero-shot against any example", nullable=True),
            "n_for_goal": count("examples to the goal in params.yaml; null with the reason in `warning`", nullable=True),
            "n_low": count("lower end of its 95% interval", nullable=True),
            "n_high": count(
                "upper end of its 95% interval; null where it lies over 100 times beyond what was measured", nullable=True
            ),
            "warning": WARNING,
        },
        made_by="languages",
        version=2,
        may_be_empty=True,
    ),
}
