"""How well a metric's order of candidates agrees with the accuracies that fine-tuning really gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.rank.weighted_tau import SAME, Float, weighted_taus

RESAMPLES = 1000
FEWEST = 3  # with two encoders every correlation is 1 or -1
INTERVAL = (0.025, 0.975)

Rows = NDArray[np.int64]


def agreement(
    scores: Sequence[float | None],
    accuracies: Sequence[float | None],
    *,
    encoders: Sequence[str] | None = None,
    higher_is_better: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the value columns of the `agreement` table for one metric on one target.

    Args:
        scores: the metric's score of each candidate; candidates without one (None) are not compared.
        accuracies: fine-tuned accuracy of each candidate, in the same order; among equal scores the first is picked.
        encoders: the encoder that each candidate is a layer of; None: each candidate is an encoder of its own.
        higher_is_better: the direction of the scores.
        seed: of the bootstrap over encoders, which draws an encoder with all its layers.

    Correlations are positive where the metric is right, whatever its direction. `weighted_kendall` is
    scipy.stats.weightedtau with its defaults; intervals are the 95% percentile bootstrap over encoders, resamples
    without an order left out. What is not defined is None, and `warning` says why.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    names = list(range(len(scores))) if encoders is None else list(encoders)
    triples = list(zip(scores, accuracies, names, strict=True))
    kept = [triple for triple in triples if triple[0] is not None and triple[1] is not None]
    table = np.array([triple[:2] for triple in kept], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(table).all():
        raise ValueError("scores and accuracies must be finite; what is missing is None")
    x, y = table[:, 0] if higher_is_better else -table[:, 0], table[:, 1]
    members = members_of([triple[2] for triple in kept])
    what = "encoders" if encoders is None else "layers"
    warnings = []
    if len(kept) < len(scores):
        warnings.append(f"{len(scores) - len(kept)} {what} have no score or no accuracy")
    columns: dict[str, Any] = dict.fromkeys(("pearson", "kendall", "weighted_kendall", "ci_low", "ci_high"))
    columns |= dict.fromkeys(("regret_low", "regret_high"))
    if len(x) < FEWEST:
        warnings.append(f"{len(x)} {what} are too few for a correlation")
    elif _constant(x) or _constant(y):
        warnings.append("all scores are equal" if _constant(x) else "all accuracies are equal")
    else:
        columns.update(_correlations(x, y))
        if members.shape[1] > 1 and all(_constant(x[rows[rows >= 0]]) for rows in members):
            warnings.append("gives all layers of an encoder the same score")
        if len(members) < FEWEST:
            warnings.append(f"{len(members)} encoders are too few for an interval")
        else:
            rows = members[encoder_draws(len(members), seed)].reshape(RESAMPLES, -1)
            drawn_x, drawn_y = taken(x, rows), taken(y, rows)
            columns["ci_low"], columns["ci_high"] = interval(weighted_taus(drawn_x, drawn_y))
            columns["regret_low"], columns["regret_high"] = interval(regrets(drawn_x, drawn_y))
    counts = {"n_encoders": len(members), "n_candidates": len(x)}
    return {**counts, **columns, **_picks(x, y), "warning": "; ".join(warnings) or None}


def members_of(encoders: Sequence[Any], universe: Sequence[Any] | None = None) -> Rows:
    """Return the candidates of each encoder [E, most candidates of one], filled up with -1.

    Args:
        encoders: the encoder of each candidate.
        universe: all encoders, in the order of the result; by default those of `encoders` in order of appearance.
    """
    names = list(dict.fromkeys(encoders)) if universe is None else list(universe)
    lists = [[row for row, encoder in enumerate(encoders) if encoder == name] for name in names]
    width = max((len(rows) for rows in lists), default=0)
    return np.array([rows + [-1] * (width - len(rows)) for rows in lists], dtype=np.int64).reshape(len(names), width)


def encoder_draws(count: int, seed: int) -> Rows:
    """Return RESAMPLES draws with replacement of `count` encoders."""
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def taken(values: Float, rows: Rows) -> Float:
    """Return values [n] at rows [b, m], NaN where a row is -1."""
    return np.where(rows < 0, np.nan, values[rows])


def interval(values: Float) -> tuple[float | None, float | None]:
    """Return the 95% percentile interval of the values that are defined, or nothing."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, INTERVAL)
    return float(low), float(high)


def regrets(x: Float, y: Float) -> Float:
    """Return for rows of x and y [b, n] the best y minus that of the largest x; NaN entries take no part."""
    absent = np.isnan(x) | np.isnan(y)
    empty = absent.all(axis=1)
    pick = np.argmax(np.where(absent, -np.inf, x), axis=1)
    best = np.where(absent, -np.inf, y).max(axis=1, initial=-np.inf)
    return np.where(empty, np.nan, np.where(empty, 0, best) - y[np.arange(len(y)), pick])


def _constant(values: Float) -> bool:
    return bool(np.ptp(values) <= SAME * np.abs(values).max())


def _correlations(x: Float, y: Float) -> dict[str, float | None]:
    from scipy.stats import kendalltau, pearsonr  # half a second that readers of the registry need not pay

    return {
        "pearson": float(pearsonr(x, y).statistic),
        "kendall": float(kendalltau(x, y).statistic),
        "weighted_kendall": float(weighted_taus(x[None], y[None])[0]),
    }


def _picks(x: Float, y: Float) -> dict[str, float | None]:
    """Return what taking the metric's first one or three picks gives, against the best there is and against chance."""
    if not len(x):
        return dict.fromkeys(("relative_at_1", "relative_at_3", "top1_regret", "random_regret"))
    order, best = np.argsort(-x, kind="stable"), float(y.max())
    return {
        "relative_at_1": float(y[order[0]]) / best if best > 0 else None,
        "relative_at_3": float(y[order[:3]].max()) / best if best > 0 else None,
        "top1_regret": best - float(y[order[0]]),
        "random_regret": best - float(y.mean()),
    }
