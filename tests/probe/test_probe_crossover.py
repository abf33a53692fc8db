"""The crossing of two curves whose crossing is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from stages.probe.crossover import crossover

SIZES = (20, 70, 250, 900, 3000, 10_000)


def curves(naive_bayes: object, logistic: object, sizes: tuple[int, ...] = SIZES) -> pl.DataFrame:
    """Return a table from errors [seeds, sizes] or [sizes] of both heads."""
    rows = [
        (head, m, seed, float(error))
        for head, errors in (("naive_bayes", naive_bayes), ("logistic", logistic))
        for seed, line in enumerate(np.atleast_2d(np.asarray(errors)))
        for m, error in zip(sizes, line, strict=True)
    ]
    return pl.DataFrame(rows, schema=["head", "m", "seed", "error"], orient="row")


def lines(shifts: list[float]) -> pl.DataFrame:
    """Errors linear in log10 m: naive Bayes 0.40 - 0.05 L, logistic 0.60 - 0.15 L + shift; they cross at L = 2 + 10 shift."""
    log_m = np.log10(SIZES)
    return curves([0.40 - 0.05 * log_m] * len(shifts), [0.60 - 0.15 * log_m + shift for shift in shifts])


def test_a_crossing_of_two_lines_is_found_exactly() -> None:
    found = crossover(lines([0.0, 0.0, 0.0]), epsilon=0.01, run_seed=0)
    assert found["regime"] == "naive_bayes_first"
    assert [found["m_star"], found["ci_low"], found["ci_high"]] == pytest.approx([100, 100, 100])
    assert found["m_to_asymptote_nb"] == pytest.approx(10**3.8)  # 0.05 a decade, within 0.01 of the value at 10^4
    assert found["m_to_asymptote_lr"] == pytest.approx(10 ** (4 - 0.01 / 0.15))


def test_the_interval_covers_what_the_seeds_say() -> None:
    shifts = [-0.04, -0.02, 0.0, 0.02, 0.04]  # crossings at 10^1.6 .. 10^2.4
    found = crossover(lines(shifts), epsilon=0.01, run_seed=0, names=("digits", "vit"))
    # The mean shift of a resample has standard deviation sqrt(0.0008 / 5); the crossing moves ten times as far in log10 m.
    half = 1.96 * np.sqrt(0.0008 / 5) * 10
    assert found["m_star"] == pytest.approx(100)
    assert np.log10(found["ci_low"] or 0) == pytest.approx(2 - half, abs=0.04)
    assert np.log10(found["ci_high"] or 0) == pytest.approx(2 + half, abs=0.04)
    assert found == crossover(lines(shifts).sample(fraction=1, shuffle=True, seed=3), epsilon=0.01, run_seed=0,
                              names=("digits", "vit"))  # fmt: skip


NAIVE = (0.30, 0.28, 0.26, 0.25, 0.24, 0.24)


@pytest.mark.parametrize(
    ("gaps", "regime", "between"),
    [
        ((1, 1, 1, 1, 1, 1), "logistic_always", None),
        ((0, 0, 1, 1, 1, 1), "logistic_always", None),
        ((-1, -1, -1, -1, -1, -1), "no_crossing_seen", None),
        ((0, 0, 0, 0, 0, 0), "no_crossing_seen", None),
        ((-1, -1, -1, -1, -1, 0), "no_crossing_seen", None),
        ((1, 1, 1, 1, 1, -1), "no_crossing_seen", None),
        ((-1, 1, 1, 1, 1, 1), "naive_bayes_first", np.sqrt(20 * 70)),
        ((-1, 1, -1, 1, 1, 1), "naive_bayes_first", np.sqrt(250 * 900)),
        ((-1, -1, 0, 1, 1, 1), "naive_bayes_first", 250),
        ((-1, -1, -1, -1, -1, 1), "naive_bayes_first", np.sqrt(3000 * 10_000)),
    ],
)
def test_regimes_follow_their_definition(gaps: tuple[int, ...], regime: str, between: float | None) -> None:
    logistic = np.array(NAIVE) - 0.125 * np.array(gaps)
    found = crossover(curves(NAIVE, logistic), epsilon=0.01, run_seed=0)
    assert found["regime"] == regime
    assert found["m_star"] == (None if between is None else pytest.approx(between))
    assert found["ci_low"] is None  # one seed has no spread
    assert found["ci_high"] is None


def test_a_flat_curve_is_at_its_asymptote_from_the_start() -> None:
    found = crossover(curves([0.2] * 6, [0.205] * 5 + [0.2]), epsilon=0.01, run_seed=0)
    assert (found["m_to_asymptote_nb"], found["m_to_asymptote_lr"]) == (20, 20)


def test_a_curve_that_leaves_its_asymptote_again_has_not_reached_it() -> None:
    found = crossover(curves([0.2, 0.2, 0.3, 0.2, 0.2, 0.2], [0.1] * 6), epsilon=0.01, run_seed=0)
    share = (0.3 - 0.21) / 0.1
    assert found["m_to_asymptote_nb"] == pytest.approx(250 ** (1 - share) * 900**share)


def test_one_head_alone_has_no_crossing() -> None:
    found = crossover(lines([0.0]).filter(head="logistic"), epsilon=0.01, run_seed=0)
    assert found["regime"] == "no_crossing_seen"
    assert found["m_star"] is None
    assert found["m_to_asymptote_nb"] is None
    assert found["m_to_asymptote_lr"] is not None
