"""Which part of the source matters for a target? One registry of methods, one contract, one way to keep a fraction."""

from __future__ import annotations

from stages.prune.by_feature import feature_mapping
from stages.prune.by_label import label_mapping
from stages.prune.contract import GroupScores, PruneInputs, Pruner, Rows, keep, ranked
from stages.prune.savings import smallest_fraction
from stages.registry import Registry

PRUNERS: Registry[Pruner] = Registry(
    "pruner",
    {
        "label_mapping": "stages.prune.by_label:prune",
        "feature_mapping": "stages.prune.by_feature:prune",
        "feature_mapping_clusters": "stages.prune.by_cluster:prune",
        "random": "stages.prune.baselines:prune_random",
        "reversed": "stages.prune.baselines:prune_reversed",
    },
)

__all__ = [
    "PRUNERS",
    "GroupScores",
    "PruneInputs",
    "Pruner",
    "Rows",
    "feature_mapping",
    "keep",
    "label_mapping",
    "ranked",
    "smallest_fraction",
]
