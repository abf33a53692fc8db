"""The smallest fraction that is as good as the full source."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from scipy import stats

from stages.prune import savings


def smallest_fraction(table: pl.DataFrame, tolerance: float) -> pl.DataFrame:
    return savings.smallest_fraction(table, tolerance, np.random.default_rng(0))


def outcomes(gaps: dict[tuple[str, float], list[float]], full_steps: int = 100) -> pl.DataFrame:
    """Rows of `pruning_outcomes`: accuracy under the full source's 0.9 (and 0.8 in the second seed) by the gap."""
    rows = []
    for seed in range(len(next(iter(gaps.values())))):
        best = 0.9 - 0.1 * seed
        rows += [("full", 1.0, seed, full_steps, best, best), ("none", 0.0, seed, 0, 0.2, best)]
        rows += [
            (method, fraction, seed, int(full_steps * fraction), best - gap[seed], best)
            for (method, fraction), gap in gaps.items()
        ]
    names = ["method", "keep_fraction", "seed", "pretrain_steps", "downstream_accuracy", "full_source_accuracy"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        source=pl.lit("s"), target=pl.lit("t"), mode=pl.lit("linear")
    )


def test_the_smallest_fraction_within_the_tolerance_with_its_interval() -> None:
    made = smallest_fraction(
        outcomes({("a", 0.2): [0.05, 0.03], ("a", 0.4): [0.02, 0.0], ("a", 0.6): [0.0, 0.0], ("b", 0.2): [0.3, 0.3]}), 0.01
    )
    assert made.columns == [
        "source", "target", "method", "mode", "n_seeds", "keep_fraction", "fraction_low", "fraction_high", "accuracy_gap",
        "gap_low", "gap_high", "steps_saved",
    ]  # fmt: skip
    a, b = made.rows(named=True)
    assert (a["method"], a["keep_fraction"], b["method"], b["keep_fraction"]) == ("a", 0.4, "b", None)
    assert a["accuracy_gap"] == pytest.approx(0.01)
    assert a["steps_saved"] == pytest.approx(0.6)
    expected = stats.ttest_1samp([0.02, 0.0], 0).confidence_interval(0.95)
    assert (a["gap_low"], a["gap_high"]) == pytest.approx((expected.low, expected.high))
    assert b["accuracy_gap"] is b["gap_low"] is b["steps_saved"] is None


def test_better_than_the_full_source_counts_and_one_seed_has_no_interval() -> None:
    row = smallest_fraction(outcomes({("a", 0.5): [-0.02]}), 0.0).row(0, named=True)
    assert row["keep_fraction"] == 0.5
    assert row["accuracy_gap"] == pytest.approx(-0.02)
    assert row["gap_low"] is row["gap_high"] is row["fraction_low"] is row["fraction_high"] is None


def test_gaps_are_paired_by_seed_so_equal_gaps_have_no_width() -> None:
    row = smallest_fraction(outcomes({("a", 0.5): [0.01, 0.01, 0.01]}), 0.01).row(0, named=True)
    assert row["keep_fraction"] == 0.5
    assert row["gap_high"] - row["gap_low"] == pytest.approx(0, abs=1e-9)


def test_order_of_rows_does_not_matter_and_pairs_stay_apart() -> None:
    one = outcomes({("a", 0.2): [0.05, 0.03], ("a", 0.4): [0.01, 0.0]})
    both = pl.concat([one, one.with_columns(target=pl.lit("u"), downstream_accuracy=pl.lit(0.0))])
    made = smallest_fraction(both, 0.01)
    shuffled = both.sample(fraction=1, shuffle=True, seed=np.random.default_rng(0).integers(100))
    assert made.select("target", "keep_fraction").rows() == [("t", 0.4), ("u", None)]
    assert smallest_fraction(shuffled, 0.01).select("target", "keep_fraction").equals(made.select("target", "keep_fraction"))


def test_a_lucky_small_fraction_below_a_worse_one_is_no_answer() -> None:
    lucky = {("a", 0.2): [0.0, 0.0], ("a", 0.4): [0.1, 0.1], ("a", 0.6): [0.0, 0.0], ("b", 0.2): [0.0, 0.0]}
    assert smallest_fraction(outcomes(lucky), 0.01)["keep_fraction"].to_list() == [0.6, 0.2]
    bad_at_the_top = {("a", 0.2): [0.0, 0.0], ("a", 0.4): [0.1, 0.1]}
    assert smallest_fraction(outcomes(bad_at_the_top), 0.01)["keep_fraction"].to_list() == [None]


def test_no_outcomes_give_an_empty_table() -> None:
    assert smallest_fraction(outcomes({("a", 0.2): [0.0]}).clear(), 0.01).is_empty()


def test_modes_stay_apart_and_each_has_its_own_full_source() -> None:
    linear = outcomes({("a", 0.2): [0.05, 0.03], ("a", 0.4): [0.01, 0.0]})
    full = outcomes({("a", 0.2): [0.0, 0.0], ("a", 0.4): [0.0, 0.0]}, full_steps=200).with_columns(mode=pl.lit("full"))
    made = smallest_fraction(pl.concat([linear, full]), 0.01)
    assert made.select("mode", "keep_fraction").rows() == [("full", 0.2), ("linear", 0.4)]
    assert made["steps_saved"].to_list() == pytest.approx([0.8, 0.6])


def test_the_fractions_interval_is_the_bootstrap_over_seeds() -> None:
    """Every one of the 27 equally likely draws of three seeds, enumerated."""
    gaps = {("a", 0.2): [0.0, 0.0, 0.06], ("a", 0.4): [0.0, 0.04, 0.0], ("a", 0.8): [0.0, 0.0, 0.0]}

    def rule(seeds: tuple[int, ...]) -> float:
        best = 1.0
        for fraction in (0.8, 0.4, 0.2):
            if np.mean([gaps["a", fraction][seed] for seed in seeds]) > 0.01 + 1e-12:
                return best
            best = fraction
        return best

    drawn = sorted(rule(seeds) for seeds in itertools.product(range(3), repeat=3))
    share = {fraction: drawn.count(fraction) / 27 for fraction in set(drawn)}
    assert share[0.2] > 0.025  # else the test would not tell the two ends apart
    row = smallest_fraction(outcomes(gaps), 0.01).row(0, named=True)
    assert (row["fraction_low"], row["fraction_high"]) == (0.2, drawn[-1])
    assert row["keep_fraction"] == rule((0, 1, 2)) == 0.8
    never = smallest_fraction(outcomes({("a", 0.2): [0.3, 0.4], ("a", 0.5): [0.3, 0.0]}), 0.01).row(0, named=True)
    assert (never["keep_fraction"], never["fraction_low"], never["fraction_high"]) == (None, 0.5, 1.0)
