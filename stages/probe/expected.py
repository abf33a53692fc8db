"""The error to expect of a head at any number of labels, read off its learning curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

CONFIDENCE = 0.95


class Expected(NamedTuple):
    """An error to expect, 0 to 1, and the interval of the mean over draws; None where one draw alone was measured."""

    error: float
    low: float | None
    high: float | None


def expected_error(curves: pl.DataFrame, head: str, m: float) -> Expected | None:
    """Return the mean error of `head` with `m` labels, or None outside the sizes measured: nothing is extrapolated.

    Each draw's error is taken as linear in log m between its two nearest sizes. The interval is Student's, at 95%, for
    the mean over draws, and cut off at 0 and 1; all labels are one draw whatever the seed, which has no interval.

    Args:
        curves: columns head, m, seed, error of one target and encoder, as `learning_curves` gives them.
        head: as in the column.
        m: labels.
    """
    chosen = curves.filter(pl.col("head") == head).sort("seed", "m")
    if chosen.is_empty() or not chosen["m"].min() <= m <= chosen["m"].max():  # type: ignore[operator]  # m is a number
        return None
    errors = np.array(
        [
            np.interp(np.log(m), np.log(group["m"].to_numpy()), group["error"].to_numpy())
            for _, group in chosen.group_by(["seed"], maintain_order=True)
        ]
    )
    mean = float(errors.mean())
    if len(errors) < 2 or (np.ptp(errors) < 1e-12 and m == chosen["m"].max()):
        return Expected(mean, None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(errors) - 1) * errors.std(ddof=1) / np.sqrt(len(errors)))
    return Expected(mean, max(mean - half, 0.0), min(mean + half, 1.0))
