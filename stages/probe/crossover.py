"""Where the two learning curves cross: the number of labels from which logistic regression beats naive Bayes."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.seeds import generator

NAIVE_BAYES, LOGISTIC = "naive_bayes", "logistic"
Regime = Literal["naive_bayes_first", "logistic_always", "no_crossing_seen"]
_RESAMPLES = 2000
_INTERVAL = (0.025, 0.975)


class Crossover(TypedDict):
    """The value columns of the table `probe_crossover`; None where there is nothing to report."""

    m_star: float | None
    ci_low: float | None
    ci_high: float | None
    regime: Regime
    m_to_asymptote_nb: float | None
    m_to_asymptote_lr: float | None


def crossover(curves: pl.DataFrame, *, epsilon: float, run_seed: int, names: tuple[str, ...] = ()) -> Crossover:
    """Compare the mean error curves of naive Bayes and logistic regression.

    At one size, a head wins where its mean error over the seeds is strictly lower. Then, over the sizes:

    - `no_crossing_seen`: logistic regression does not win at the largest size (naive Bayes always wins, ties, or
      overtakes again), or one of the two heads was not run;
    - `logistic_always`: it wins at the largest size, and naive Bayes wins at none;
    - `naive_bayes_first`: it wins at the largest size, and naive Bayes wins at a smaller one.

    In the last case m* is where naive Bayes stops winning for good: between the last size at which it wins and the next,
    where the difference of the mean errors, taken as linear in log m, is zero. The interval resamples the seeds, both
    heads of a seed together, and takes quantiles over the resamples that cross.

    Args:
        curves: columns head, m, seed, error of one target and encoder, as `learning_curves` gives them.
        epsilon: distance in error from a head's own error at the largest size that counts as its asymptote reached.
        run_seed: the run's seed.
        names: what else the bootstrap's stream depends on, for instance target and encoder.
    """
    naive_bayes, logistic = _errors(curves, NAIVE_BAYES), _errors(curves, LOGISTIC)
    result = Crossover(
        m_star=None,
        ci_low=None,
        ci_high=None,
        regime="no_crossing_seen",
        m_to_asymptote_nb=_m_to_asymptote(naive_bayes, epsilon),
        m_to_asymptote_lr=_m_to_asymptote(logistic, epsilon),
    )
    if naive_bayes is None or logistic is None:
        return result
    sizes, gaps = naive_bayes[0], naive_bayes[1] - logistic[1]  # (s,), (seeds, s): positive where logistic wins
    mean = gaps.mean(axis=0)
    if not mean[-1] > 0:
        return result
    m_star = float(_crossings(sizes, mean[None])[0])
    if np.isnan(m_star):
        result["regime"] = "logistic_always"
        return result
    result["regime"], result["m_star"] = "naive_bayes_first", m_star
    if len(gaps) > 1:
        random = generator(run_seed, "crossover", *names)
        chosen = random.integers(len(gaps), size=(_RESAMPLES, len(gaps)))
        resampled = _crossings(sizes, gaps[chosen].mean(axis=1))
        low, high = np.nanquantile(resampled, _INTERVAL) if np.isfinite(resampled).any() else (m_star, m_star)
        result["ci_low"], result["ci_high"] = float(low), float(high)
    return result


def _errors(curves: pl.DataFrame, head: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return sizes [s] and errors [seeds, s] of one head, or None where it was not run."""
    chosen = curves.filter(pl.col("head") == head).sort("seed", "m")
    if chosen.is_empty():
        return None
    sizes = chosen["m"].unique().sort().to_numpy().astype(np.float64)
    return sizes, chosen["error"].to_numpy().reshape(-1, len(sizes))


def _crossings(sizes: NDArray[np.float64], gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return m* for every row of gaps [r, s] (positive where logistic wins); NaN where there is none.

    A row crosses where its last gap is positive and an earlier one is negative.
    """
    rows = np.flatnonzero((gaps[:, -1] > 0) & (gaps < 0).any(axis=1))
    won = gaps[rows, ::-1] < 0  # by naive Bayes, largest size first
    before = gaps.shape[1] - 1 - won.argmax(axis=1)  # the last size that it wins
    low, high = gaps[rows, before], gaps[rows, before + 1]
    logs = np.log(sizes)
    found = np.full(len(gaps), np.nan)
    found[rows] = np.exp(logs[before] + low / (low - high) * (logs[before + 1] - logs[before]))
    return found


def _m_to_asymptote(curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None, epsilon: float) -> float | None:
    """Return the m from which the mean error stays within epsilon of its last value, interpolated on log m.

    It is the smallest size where the whole curve does, and None where the head was not run.
    """
    if curve is None:
        return None
    sizes, error = curve[0], curve[1].mean(axis=0)
    above = error - (error[-1] + epsilon)  # (s,) positive where too far
    far = np.flatnonzero(above > 0)
    if not len(far):
        return float(sizes[0])
    last = far[-1]
    share = above[last] / (above[last] - above[last + 1])
    return float(np.exp(np.log(sizes[last]) + share * (np.log(sizes[last + 1]) - np.log(sizes[last]))))
