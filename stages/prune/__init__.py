"""Which part of the source matters for a target? One registry of methods, one contract, one way to keep a fraction."""

from __future__ import annotations

import re

from stages.prune.by_feature import feature_mapping
from stages.prune.by_label import label_mapping
from stages.prune.contract import GroupScores, PruneInputs, Pruner, Rows, keep, ranked
from stages.prune.savings import smallest_fraction
from stages.registry import Registry

PRUNERS: Registry[Pruner] = Registry(
    "pruner",
    {
        # of classes, or of clusters
        "label_mapping": "stages.prune.by_label:prune",
        "feature_mapping": "stages.prune.by_feature:prune",
        "feature_mapping_clusters": "stages.prune.by_cluster:prune",
        "random": "stages.prune.baselines:prune_random",
        "reversed": "stages.prune.baselines:prune_reversed",
        "moderate_classes": "stages.prune.moderate:prune_classes",
        "el2n_classes": "stages.prune.el2n:prune_classes",
        "grand_classes": "stages.prune.grand:prune_classes",
        "herding_classes": "stages.prune.herding:prune_classes",
        "k_center_classes": "stages.prune.k_center:prune_classes",
        # of single images
        "random_images": "stages.prune.baselines:prune_random_images",
        "moderate": "stages.prune.moderate:prune",
        "el2n": "stages.prune.el2n:prune",
        "grand": "stages.prune.grand:prune",
        "herding": "stages.prune.herding:prune",
        "k_center": "stages.prune.k_center:prune",
        "near_duplicates_in_clusters": "stages.prune.near_duplicates:prune",
    },
)

NEED_HEAD = frozenset({"label_mapping", "reversed"})  # the pruners that ask the surrogate for the source's classes

_WITH_CLUSTERS = re.compile(r"(.+_clusters)_(\d+)")


def method_of(name: str) -> tuple[str, int | None]:
    """Return the registered method behind a name of `prune.methods`, and the number of clusters that the name asks for.

    Methods whose name ends in `_clusters` run once for each number in `prune.clusters`, under names that end in it.
    """
    match = _WITH_CLUSTERS.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


__all__ = [
    "NEED_HEAD",
    "PRUNERS",
    "GroupScores",
    "PruneInputs",
    "Pruner",
    "Rows",
    "feature_mapping",
    "keep",
    "label_mapping",
    "method_of",
    "ranked",
    "smallest_fraction",
]
