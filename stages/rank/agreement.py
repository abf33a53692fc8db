"""How well a metric's order of encoders agrees with the accuracies that fine-tuning really gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
FEWEST = 3  # with two encoders every correlation is 1 or -1
SAME = 1e-12  # relative spread under which values count as equal

Float = NDArray[np.float64]


def agreement(
    scores: Sequence[float | None], accuracies: Sequence[float | None], *, higher_is_better: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Return the value columns of the `agreement` table for one metric on one target.

    Args:
        scores: the metric's score of each encoder; encoders without one (None) are not compared.
        accuracies: fine-tuned accuracy of each encoder, in the same order; among equal scores the first is picked.
        higher_is_better: the direction of the scores.
        seed: of the bootstrap over encoders.

    Correlations are positive where the metric is right, whatever its direction. `weighted_kendall` is
    scipy.stats.weightedtau with its defaults; its interval is the 95% percentile bootstrap over encoders, resamples
    without an order left out. What is not defined is None, and `warning` says why.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    pairs = [pair for pair in zip(scores, accuracies, strict=True) if pair[0] is not None and pair[1] is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(table).all():
        raise ValueError("scores and accuracies must be finite; what is missing is None")
    x, y = table[:, 0] if higher_is_better else -table[:, 0], table[:, 1]
    warnings = []
    if len(pairs) < len(scores):
        warnings.append(f"{len(scores) - len(pairs)} encoders have no score or no accuracy")
    columns: dict[str, Any] = dict.fromkeys(("pearson", "kendall", "weighted_kendall", "ci_low", "ci_high"))
    if len(x) < FEWEST:
        warnings.append(f"{len(x)} encoders are too few for a correlation")
    elif _constant(x) or _constant(y):
        warnings.append("all scores are equal" if _constant(x) else "all accuracies are equal")
    else:
        columns.update(_correlations(x, y))
        columns["ci_low"], columns["ci_high"] = _interval(x, y, seed)
    return {"n_encoders": len(x), **columns, **_picks(x, y), "warning": "; ".join(warnings) or None}


def _constant(values: Float) -> bool:
    return bool(np.ptp(values) <= SAME * np.abs(values).max())


def _correlations(x: Float, y: Float) -> dict[str, float | None]:
    from scipy.stats import kendalltau, pearsonr  # half a second that readers of the registry need not pay

    return {
        "pearson": float(pearsonr(x, y).statistic),
        "kendall": float(kendalltau(x, y).statistic),
        "weighted_kendall": _weighted_kendall(x, y),
    }


def _weighted_kendall(x: Float, y: Float) -> float | None:
    from scipy.stats import weightedtau

    value = float(weightedtau(x, y).statistic)
    return value if math.isfinite(value) else None


def _interval(x: Float, y: Float, seed: int) -> tuple[float | None, float | None]:
    """Return the 95% bootstrap interval of the weighted Kendall correlation."""
    draws = np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))
    draws.sort(axis=1)  # tau does not see the order of encoders, and few encoders have few distinct resamples
    distinct, counts = np.unique(draws, axis=0, return_counts=True)
    values: list[float] = []
    for rows, count in zip(distinct, counts.tolist(), strict=True):
        value = None if _constant(x[rows]) or _constant(y[rows]) else _weighted_kendall(x[rows], y[rows])
        values += [value] * count if value is not None else []
    if not values:
        return None, None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _picks(x: Float, y: Float) -> dict[str, float | None]:
    """Return what taking the metric's first one or three picks gives, against the best there is."""
    if not len(x):
        return {"relative_at_1": None, "relative_at_3": None, "top1_regret": None}
    order, best = np.argsort(-x, kind="stable"), float(y.max())
    return {
        "relative_at_1": float(y[order[0]]) / best if best > 0 else None,
        "relative_at_3": float(y[order[:3]].max()) / best if best > 0 else None,
        "top1_regret": best - float(y[order[0]]),
    }
