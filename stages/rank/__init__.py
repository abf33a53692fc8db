"""Transferability: how promising are frozen features for a target, before anyone fine-tunes.

`METRICS["logme"](features, labels)` scores one candidate; a metric is one pure module and one line here.
"""

from stages.rank.agreement import agreement
from stages.rank.metric import Metric, Score
from stages.rank.statistics import Statistics
from stages.registry import Registry

__all__ = ["METRICS", "Metric", "Score", "Statistics", "agreement"]

METRICS: Registry[Metric] = Registry(
    "transferability metric",
    {
        "tmi": "stages.rank.tmi:TMI",
        "tmi_unclamped": "stages.rank.tmi:TMI_UNCLAMPED",
        "tmi_per_dim": "stages.rank.tmi:TMI_PER_DIM",
        "logme": "stages.rank.logme:LOGME",
        "h_score": "stages.rank.h_score:H_SCORE",
        "regularized_h_score": "stages.rank.h_score:REGULARIZED_H_SCORE",
        "leep": "stages.rank.leep:LEEP",
        "nce": "stages.rank.leep:NCE",
        "knn": "stages.rank.knn:KNN",
        "transrate": "stages.rank.transrate:TRANSRATE",
    },
)
