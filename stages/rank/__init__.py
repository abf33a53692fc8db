"""Which encoder and layer to take, before any fine-tuning: transferability metrics on frozen features and labels."""

from __future__ import annotations

from stages.rank.agreement import agreement
from stages.rank.metric import AnyMetric, Metric, PoolMetric, Score, score_pool
from stages.rank.statistics import Statistics
from stages.registry import Registry

METRICS: Registry[AnyMetric] = Registry(
    "metric",
    {
        "tmi": "stages.rank.tmi:tmi",
        "tmi_per_dim": "stages.rank.tmi:tmi_per_dim",
        "tmi_unclamped": "stages.rank.tmi:tmi_unclamped",
        "logme": "stages.rank.logme:logme",
        "h_score": "stages.rank.h_score:h_score",
        "regularized_h_score": "stages.rank.h_score:regularized_h_score",
        "leep": "stages.rank.leep:leep",
        "nce": "stages.rank.nce:nce",
        "knn": "stages.rank.knn:knn",
        "transrate": "stages.rank.transrate:transrate",
        "gbc": "stages.rank.gbc:gbc",
        "sfda": "stages.rank.sfda:sfda",
        "ncti": "stages.rank.ncti:ncti",
        "etran": "stages.rank.etran:etran",
        "parc": "stages.rank.parc:parc",
        "emms": "stages.rank.emms:emms",
        "pactran_gauss": "stages.rank.pactran:pactran_gauss",
        "lda": "stages.rank.lda:lda",
        "linear_cv": "stages.rank.linear_cv:linear_cv",
        "nleep": "stages.rank.nleep:nleep",
    },
)

__all__ = ["METRICS", "AnyMetric", "Metric", "PoolMetric", "Score", "Statistics", "agreement", "score_pool"]
