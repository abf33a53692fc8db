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
            "seed": SEED,
        },
        {
            "n_classes": count("source classes kept"),
            "n_images": count("source training images kept"),
            "pretrain_steps": count("optimiser steps of the pre-training"),
            "downstream_accuracy": share("linear head on the target's test split"),
            "full_source_accuracy": share("the same after pre-training on the whole source with this seed"),
        },
        made_by="prune_proof",
        may_be_empty=True,
    ),
}
