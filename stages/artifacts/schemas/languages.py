"""Tables of the family `languages`."""

from __future__ import annotations

import polars as pl

from stages.artifacts.schemas.schema import SEED, WARNING, Column, Schema, count, real, share, text

SCHEMAS: dict[str, Schema] = {
    "language_pairs": Schema(
        "How well does a task transfer from one language to another?",
        {
            "task": text("task"),
            "source": text("source language, ISO 639"),
            "target": text("target language, ISO 639"),
            "n_shots": count("labelled target examples added to the source's"),
            "seed": SEED,
        },
        {
            "score": share("macro-F1 on the target's test names"),
            "n_source": count("source training examples"),
            "n_target": count("target test examples"),
        },
        made_by="transfer",
        open_columns=True,
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
    "language_predictions": Schema(
        "What score is expected for a pair that nobody measured?",
        {
            "task": text("task"),
            "split_protocol": text("`leave_one_target_out`: no pair of the target language is seen"),
            "model": text("predictor, baselines included"),
            "source": text("source language"),
            "target": text("target language"),
        },
        {
            "score": share("measured zero-shot score, mean over seeds"),
            "predicted": share("prediction, clipped"),
            "interval_low": real("lower end of the 90% interval", nullable=True),
            "interval_high": real("upper end of the 90% interval", nullable=True),
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
            "measured": share("score measured zero-shot, mean over seeds"),
            "regret": share("best measured score of the target minus this source's"),
            "conformal_set": Column(pl.Boolean, "in the set that holds the best source with 90% coverage"),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "fewshot_curves": Schema(
        "How many labelled target examples does a goal take?",
        {"task": text("task"), "target": text("target language")},
        {
            "offset": real("score at no example by the line fitted on the source that is ranked first"),
            "slope_per_decade": real("gain for every tenfold of 1 + n"),
            "slope_low": real("lower end of the slope's 95% interval", nullable=True),
            "slope_high": real("upper end of the slope's 95% interval", nullable=True),
            "r2_log": real("R2 of offset + slope log10(1 + n)", nullable=True),
            "r2_linear": real("R2 of a line in n", nullable=True),
            "r2_step": real("R2 of zero-shot against any example", nullable=True),
            "n_for_goal": count("examples to the goal in params.yaml; null with the reason in `warning`", nullable=True),
            "warning": WARNING,
        },
        made_by="languages",
        may_be_empty=True,
    ),
}
