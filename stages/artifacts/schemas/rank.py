"""Tables of the family `rank`."""

from __future__ import annotations

import polars as pl

from stages.artifacts.schemas.schema import (
    ENCODER,
    SEED,
    TARGET,
    WARNING,
    Column,
    Schema,
    correlation,
    count,
    real,
    share,
    text,
)

SCHEMAS: dict[str, Schema] = {
    "transferability": Schema(
        "How promising is each encoder and layer for each target?",
        {"target": TARGET, "encoder": ENCODER, "layer": text("tapped layer"), "metric": text("metric name")},
        {
            "score": real("the metric's value; null where it is not defined", nullable=True),
            "rank": count("1 is the most promising among all encoders and layers of this target and metric", nullable=True),
            "higher_is_better": Column(pl.Boolean, "direction of `score`"),
            "n": count("images scored"),
            "d": count("feature dimensions"),
            "warning": WARNING,
        },
        made_by="tables",
    ),
    "finetuned": Schema(
        "How good does each encoder really become on each target?",
        {"target": TARGET, "encoder": ENCODER, "mode": text("`linear` head or `full` fine-tuning"), "seed": SEED},
        {
            "accuracy": share("on the test split"),
            "mean_per_class_accuracy": share("mean of the classes' accuracies"),
            "epochs": count("passes over the training images; null where the head is fitted to convergence", nullable=True),
        },
        made_by="tables",
    ),
    "agreement": Schema(
        "How well does each metric agree with fine-tuned accuracy?",
        {"target": TARGET, "metric": text("metric name"), "mode": text("ground truth: `linear` or `full`")},
        {
            "n_encoders": count("encoders compared"),
            "pearson": correlation("Pearson correlation"),
            "kendall": correlation("Kendall's tau-b"),
            "weighted_kendall": correlation("weighted Kendall's tau, hyperbolic weights"),
            "relative_at_1": real("accuracy of the metric's first pick over the best accuracy", nullable=True),
            "relative_at_3": real("best accuracy among the metric's first three picks over the best accuracy", nullable=True),
            "top1_regret": real("best accuracy minus accuracy of the first pick", nullable=True),
            "ci_low": correlation("2.5% bootstrap quantile of weighted_kendall over encoders"),
            "ci_high": correlation("97.5% bootstrap quantile of weighted_kendall over encoders"),
            "warning": WARNING,
        },
        made_by="tables",
    ),
}
