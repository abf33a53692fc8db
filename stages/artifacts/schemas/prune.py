"""Tables of the family `prune`."""

from __future__ import annotations

from stages.artifacts.schemas.schema import SEED, TARGET, WARNING, Schema, count, real, share, text

SCHEMAS: dict[str, Schema] = {
    "pruning_scores": Schema(
        "Which source classes matter for a target?",
        {
            "source": text("source dataset"),
            "target": text("target dataset, or the name of a combination of several"),
            "method": text("pruning method"),
            "group": text("source class or cluster; of the first repetition where the method draws"),
        },
        {
            "level": text("`class` or `cluster`; methods that order single images have their scores in data/pruning alone"),
            "score": real("higher is kept longer"),
            "rank": count("1 is kept longest"),
            "n_images": count("training images of the group"),
            "warning": WARNING,
        },
        made_by="prune",
        version=2,
        may_be_empty=True,
    ),
    "pruning_outcomes": Schema(
        "What does pre-training on what is kept cost, and save?",
        {
            "source": text("source dataset"),
            "target": TARGET,
            "method": text("pruning method, `full` for the whole source, `none` for random weights"),
            "keep_fraction": share("share of the source's groups kept: its classes, unless the method makes its own"),
            "mode": text("how the target is learned: `linear` head or `full` fine-tuning"),
            "seed": SEED,
        },
        {
            "n_classes": count("source classes kept"),
            "n_images": count("source training images kept"),
            "pretrain_steps": count("optimiser steps of the pre-training"),
            "downstream_accuracy": share("on the target's test split"),
            "full_source_accuracy": share("the same after pre-training on the whole source with this seed"),
        },
        made_by="prune_proof",
        version=2,
        may_be_empty=True,
    ),
    "pruning_savings": Schema(
        "How much source data can go without loss, and what does that save?",
        {
            "source": text("source dataset"),
            "target": TARGET,
            "method": text("pruning method"),
            "mode": text("how the target is learned: `linear` head or `full` fine-tuning"),
        },
        {
            "n_seeds": count("repetitions"),
            "keep_fraction": share(
                "smallest share of groups from which on the mean loss is within prune.tolerance; null where none tried is",
                nullable=True,
            ),
            "fraction_low": share("2.5% bootstrap quantile of keep_fraction over seeds, none counting as 1", nullable=True),
            "fraction_high": share("97.5% bootstrap quantile of keep_fraction over seeds, none counting as 1", nullable=True),
            "accuracy_gap": real("mean accuracy lost against the whole source at keep_fraction", nullable=True),
            "gap_low": real("lower end of the 95% interval of accuracy_gap, Student's t over seeds", nullable=True),
            "gap_high": real("upper end of the 95% interval of accuracy_gap, Student's t over seeds", nullable=True),
            "steps_saved": share("share of the whole source's optimiser steps saved at keep_fraction", nullable=True),
        },
        made_by="prune_proof",
        may_be_empty=True,
    ),
}
