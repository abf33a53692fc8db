"""How small may the source become before the target suffers?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SCHEMA = {
    "source": pl.String,
    "target": pl.String,
    "method": pl.String,
    "mode": pl.String,
    "n_seeds": pl.Int64,
    "keep_fraction": pl.Float64,
    "fraction_low": pl.Float64,
    "fraction_high": pl.Float64,
    "accuracy_gap": pl.Float64,
    "gap_low": pl.Float64,
    "gap_high": pl.Float64,
    "steps_saved": pl.Float64,
}
KEYS = ["source", "target", "method", "mode"]
ROUNDING = 1e-9  # sums depend on the order of rows in their last bits; a gap that equals the tolerance must pass


def paired_gaps(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return, for every run on what a method keeps, what it loses and saves against the full source of its seed and mode.

    Args:
        outcomes: rows of the table `pruning_outcomes`.

    Returns:
        source, target, method, mode, keep_fraction, seed, sorted by them; gap: accuracy of the full source minus the
        run's; saved: share of the full source's optimiser steps, 0 to 1.
    """
    full = outcomes.filter(pl.col("method") == "full").select("source", "target", "mode", "seed", full_steps="pretrain_steps")
    return (
        outcomes.filter(~pl.col("method").is_in(["full", "none"]))
        .join(full, on=["source", "target", "mode", "seed"], how="left")
        .select(
            *KEYS,
            "keep_fraction",
            "seed",
            gap=pl.col("full_source_accuracy") - pl.col("downstream_accuracy"),
            saved=1 - pl.col("pretrain_steps") / pl.col("full_steps"),
        )
        .sort(*KEYS, "keep_fraction", "seed")
    )


def half_width(values: NDArray[np.float64]) -> float | None:
    """Return half the 95% interval of the mean of [n] values by Student's t, None where n is 1."""
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def smallest_fraction(outcomes: pl.DataFrame, tolerance: float, generator: np.random.Generator) -> pl.DataFrame:
    """Return, for each pair, pruning method and mode, the smallest kept fraction that is as good as the full source.

    As good means: the accuracy after pre-training on the full source exceeds that after pre-training on what is
    kept by at most `tolerance`, on average over seeds, and does so at every larger fraction tried with the method:
    one lucky draw below worse ones is no answer. Runs of one seed start from the same weights, so the gaps are
    paired; their interval is Student's t over seeds. The interval of the fraction itself is a bootstrap over seeds: the
    same rule on seeds drawn with replacement, and 1 where no fraction passes, since all of the source always does.

    Args:
        outcomes: rows of the table `pruning_outcomes`: the same seeds for every method and fraction.
        tolerance: accuracy, 0 to 1.
        generator: of the bootstrap.

    Returns:
        source, target, method, mode, sorted by them; n_seeds; keep_fraction, fraction_low and fraction_high (95%); and
        of the runs at that fraction: accuracy_gap (mean; below 0 where pruning helped), gap_low and gap_high (95%),
        steps_saved (share of the full source's optimiser steps, 0 to 1). Null where no fraction is as good, intervals
        also with a single seed.
    """
    gaps = paired_gaps(outcomes)
    # One set of draws for all methods: two that differ in nothing get the same interval.
    n_seeds = max(gaps["seed"].n_unique(), 1)
    draws = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=RESAMPLES).T / n_seeds  # (seeds, resamples)
    rows = [
        {**dict(zip(KEYS, key, strict=True)), **_of_method(group, tolerance, draws)}
        for key, group in gaps.group_by(KEYS, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA).sort(KEYS)


def _of_method(runs: pl.DataFrame, tolerance: float, draws: NDArray[np.float64]) -> dict[str, Any]:
    """Return the values of one method from its runs, sorted by fraction and seed; `draws` [seeds, resamples] are weights."""
    fractions = runs["keep_fraction"].unique().sort().to_numpy()
    n_seeds = len(draws)
    gap, saved = (runs[name].to_numpy().reshape(len(fractions), n_seeds) for name in ("gap", "saved"))
    found = int(_smallest(gap.mean(axis=1, keepdims=True), tolerance)[0])
    values: dict[str, Any] = {"n_seeds": n_seeds}
    if n_seeds > 1:
        smallest = np.append(fractions, 1.0)[_smallest(gap @ draws, tolerance)]
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(smallest, [tail, 1 - tail], method="inverted_cdf")  # one of the fractions tried
        values |= {"fraction_low": float(low), "fraction_high": float(high)}
    if found == len(fractions):
        return values
    mean = float(gap[found].mean())
    values |= {
        "keep_fraction": float(fractions[found]), "accuracy_gap": mean, "steps_saved": float(saved[found].mean()),
    }  # fmt: skip
    half = half_width(gap[found])
    return values if half is None else values | {"gap_low": mean - half, "gap_high": mean + half}


def _smallest(gaps: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Return, for each column of gaps [fractions, n], the first row from which on all pass; `fractions` where none does."""
    passes = gaps <= tolerance + ROUNDING
    from_here_on = np.logical_and.accumulate(passes[::-1], axis=0)
    return np.asarray(len(gaps) - from_here_on.sum(axis=0), dtype=np.int64)
