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
            "n_classes": count("classes among them"),
            "n_source_classes": count("classes of the encoder's own head; null without a trained one", nullable=True),
            "warning": WARNING,
        },
        made_by="tables",
        version=2,
    ),
    "finetuned": Schema(
        "How good does each encoder really become on each target?",
        {
            "target": TARGET,
            "encoder": ENCODER,
            "mode": text("`linear` head, `full` fine-tuning, or `given`: the accuracy in `rank.accuracies` of params.yaml"),
            "seed": SEED,
        },
        {
            "accuracy": share("on the test split"),
            "mean_per_class_accuracy": share("mean of the classes' accuracies; null where it was not given", nullable=True),
            "epochs": count(
                "passes over the training images; null where the head is fitted to convergence, and where given", nullable=True
            ),
        },
        made_by="tables",
        version=2,
        may_be_empty=True,
    ),
    "layer_probes": Schema(
        "How good is a linear head on each layer?",
        {"target": TARGET, "encoder": ENCODER, "layer": text("tapped layer"), "seed": SEED},
        {
            "depth": share("share of the network up to and with this layer"),
            "d": count("feature dimensions"),
            "accuracy": share("of a linear head on the test split"),
        },
        made_by="tables",
        may_be_empty=True,
    ),
    "layer_profiles": Schema(
        "At which depth do an encoder's features serve the target best?",
        {"target": TARGET, "encoder": ENCODER, "layer": text("tapped layer")},
        {
            "depth": share("share of the network up to and with this layer"),
            "d": count("feature dimensions"),
            "probe_accuracy": share("mean test accuracy of a linear head over seeds"),
            "probe_low": share("least over seeds"),
            "probe_high": share("largest over seeds"),
            "tmi": real("TMI score, which grows with d; null where it is not computed", nullable=True),
            "tmi_per_dim": real("TMI score over d; null where it is not computed", nullable=True),
        },
        made_by="tables",
        may_be_empty=True,
    ),
    "agreement": Schema(
        "How well does each metric agree with fine-tuned accuracy?",
        {
            "target": TARGET,
            "metric": text("metric name"),
            "mode": text(
                "what is compared: `linear`, `full` and `given`: each encoder's head layer with the accuracy of that name in "
                "`finetuned`; `layers`: every layer of every encoder with the accuracy in `layer_probes`"
            ),
        },
        {
            "n_encoders": count("encoders compared"),
            "n_candidates": count("encoders, or in mode `layers` encoders and layers, compared"),
            "pearson": correlation("Pearson correlation"),
            "kendall": correlation("Kendall's tau-b"),
            "weighted_kendall": correlation("weighted Kendall's tau, hyperbolic weights"),
            "ci_low": correlation("2.5% bootstrap quantile of weighted_kendall over encoders"),
            "ci_high": correlation("97.5% bootstrap quantile of weighted_kendall over encoders"),
            "relative_at_1": real("accuracy of the metric's first pick over the best accuracy", nullable=True),
            "relative_at_3": real("best accuracy among the metric's first three picks over the best accuracy", nullable=True),
            "top1_regret": real("best accuracy minus accuracy of the first pick", nullable=True),
            "regret_low": real("2.5% bootstrap quantile of top1_regret over encoders", nullable=True),
            "regret_high": real("97.5% bootstrap quantile of top1_regret over encoders", nullable=True),
            "random_regret": real("best accuracy minus mean accuracy: what a pick at random costs", nullable=True),
            "warning": WARNING,
        },
        made_by="tables",
        version=2,
        may_be_empty=True,
    ),
    "metric_verdicts": Schema(
        "Which metric can be trusted, and for which kind of target?",
        {
            "aspect": text(
                "what a kind of target is told by: `all`; `mode` of fine-tuning; `classes`; `images_per_class`; `n_over_d`, "
                "images over the median feature dimension; `source_head`, which restricts the encoders instead"
            ),
            "level": text("the kind"),
            "metric": text("metric name"),
        },
        {
            "n_targets": count("targets of this kind with fine-tuned accuracies"),
            "n_comparisons": count("targets times modes that are averaged"),
            "n_encoders": count("encoders that the metric scores, the fewest of any comparison"),
            "place": count("1 is the largest weighted_kendall among the metrics of this kind", nullable=True),
            "weighted_kendall": correlation("mean weighted Kendall's tau"),
            "ci_low": correlation("2.5% bootstrap quantile over encoders and targets"),
            "ci_high": correlation("97.5% bootstrap quantile over encoders and targets"),
            "p_chance": share("share of random deals of the accuracies that agree at least as well", nullable=True),
            "p_adjusted": share("the same for the best of all metrics tried: Westfall and Young's min-P", nullable=True),
            "top1_regret": real("mean of best accuracy minus accuracy of the first pick", nullable=True),
            "regret_low": real("2.5% bootstrap quantile over encoders and targets", nullable=True),
            "regret_high": real("97.5% bootstrap quantile over encoders and targets", nullable=True),
            "random_regret": real("the same for a pick at random among the metric's candidates", nullable=True),
            "verdict": text(
                "`better than chance` (ci_low > 0 and p_adjusted < 0.05), `worse than chance` (ci_high < 0 and "
                "p_chance > 0.95), `may be chance`, or `too few encoders`"
            ),
            "warning": WARNING,
        },
        made_by="tables",
        may_be_empty=True,
    ),
}
