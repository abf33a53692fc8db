"""How well a metric's scores agree with fine-tuned accuracies: correlations, and what its first picks are worth."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stages.seeds import generator

BOOTSTRAPS = 1000


def agreement(
    scores: ArrayLike, accuracies: ArrayLike, *, higher_is_better: bool = True, seed: int = 0
) -> dict[str, float | str | None]:
    """Compare one metric's scores [n] of n encoders with their accuracies [n] (in 0..1) on one target.

    Returns the value columns of the `agreement` table. Weighted Kendall is SciPy's `weightedtau` with its defaults.
    Rel@k is the best accuracy among the k encoders scored highest over the best of all, top-1 regret the best
    accuracy minus that of the encoder scored highest; equal scores are broken by position. The interval holds the
    middle 95% of weighted Kendall over bootstrap samples of the encoders.
    """
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(accuracies, dtype=np.float64)
    if not higher_is_better:
        values = -values
    result: dict[str, float | str | None] = dict.fromkeys(
        ("pearson", "kendall", "weighted_kendall", "relative_at_1", "relative_at_3", "top1_regret", "ci_low", "ci_high")
    )
    result["n_encoders"] = len(values)
    result["warning"] = None
    if len(values) == 0:
        return {**result, "warning": "no encoder has this score"}
    order = np.argsort(-values, kind="stable")
    best = float(truth.max())
    if best > 0:
        result["relative_at_1"] = float(truth[order[0]] / best)
        result["relative_at_3"] = float(truth[order[:3]].max() / best)
    result["top1_regret"] = best - float(truth[order[0]])
    if len(values) < 3:
        return {**result, "warning": "fewer than three encoders: no correlation"}
    if np.ptp(values) == 0 or np.ptp(truth) == 0:
        return {**result, "warning": f"all {'scores' if np.ptp(values) == 0 else 'accuracies'} are equal: no correlation"}
    result["pearson"] = float(stats.pearsonr(values, truth).statistic)
    result["kendall"] = float(stats.kendalltau(values, truth).statistic)
    result["weighted_kendall"] = float(stats.weightedtau(values, truth).statistic)
    taus = _bootstrap(values, truth, seed)
    if len(taus) >= BOOTSTRAPS // 2:
        result["ci_low"], result["ci_high"] = (float(bound) for bound in np.quantile(taus, [0.025, 0.975]))
    if len(values) < 10:
        result["warning"] = f"only {len(values)} encoders"
    return result


def _bootstrap(values: NDArray[np.float64], truth: NDArray[np.float64], seed: int) -> list[float]:
    """Return weighted Kendall of resampled encoders, leaving out samples in which it is not defined."""
    stream = generator(seed, "agreement")
    taus = []
    for _ in range(BOOTSTRAPS):
        chosen = stream.integers(len(values), size=len(values))
        if np.ptp(values[chosen]) > 0 and np.ptp(truth[chosen]) > 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # SciPy divides 0 by 0 in samples of one repeated pair
                tau = float(stats.weightedtau(values[chosen], truth[chosen]).statistic)
            if np.isfinite(tau):
                taus.append(tau)
    return taus
