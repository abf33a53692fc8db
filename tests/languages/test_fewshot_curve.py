"""Few-shot curves: the planted law comes back, and what cannot be promised is refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from stages.errors import InputProblem
from stages.languages import fewshot_curve
from stages.languages.fewshot import _fieller, backtest, examples_for, laws, measured_points, of_choice
from stages.languages.within import Line, within_line

SHOTS = [0, 10, 30, 100]


def table(law: Callable[[float], float], *, noise: float = 0.0, seeds: int = 3, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for draw in range(seeds):
        for n in SHOTS:
            shared = rng.normal(0, noise) if noise else 0.0  # the examples of a draw are the same for all sources
            rows += [
                {
                    "task": "t",
                    "source": s,
                    "target": "x",
                    "seed": draw,
                    "n_shots": n,
                    "score": shift + 0.02 * draw + law(n) + shared,
                }
                for s, shift in (("a", 0.0), ("b", 0.1))
            ]
    return pl.DataFrame(rows)


def test_a_planted_law_comes_back_exactly() -> None:
    row = fewshot_curve(table(lambda n: 0.3 + 0.1 * math.log10(1 + n)), goal=0.6).row(0, named=True)
    assert row["slope_per_decade"] == pytest.approx(0.1)
    assert row["offset"] == pytest.approx(0.3 + 0.05 + 0.02)  # mean over sources and draws
    assert row["r2_log"] == pytest.approx(1)
    assert row["r2_log"] > max(row["r2_linear"], row["r2_step"])
    assert row["n_for_goal"] == math.ceil(10 ** ((0.6 - 0.37) / 0.1) - 1) == 199
    assert row["warning"].startswith("extrapolated: only 100 examples were measured")


@pytest.mark.parametrize(
    ("shape", "law"), [("r2_linear", lambda n: 0.3 + 0.002 * n), ("r2_step", lambda n: 0.3 + 0.2 * (n > 0))]
)
def test_another_law_is_told_from_the_logarithm(shape: str, law: Callable[[float], float]) -> None:
    row = fewshot_curve(table(law), goal=0.5).row(0, named=True)
    assert row[shape] == pytest.approx(1)
    assert row["r2_log"] < 0.95
    assert row["n_for_goal"] > 0
    assert ("fits better than the logarithm (R2 1.00 against 0." in (row["warning"] or "")) == (row["r2_log"] < 0.9)


def test_slope_interval_covers_at_its_level_although_sources_share_draws() -> None:
    inside = 0
    for seed in range(200):
        row = fewshot_curve(table(lambda n: 0.3 + 0.1 * math.log10(1 + n), noise=0.05, seed=seed), goal=0.6).row(0, named=True)
        inside += row["slope_low"] <= 0.1 <= row["slope_high"]
    assert 182 <= inside <= 198  # 190 expected


def test_a_slope_that_may_be_nothing_is_refused() -> None:
    row = fewshot_curve(table(lambda n: 0.3, noise=0.05), goal=0.6).row(0, named=True)
    assert row["n_for_goal"] is None
    assert row["warning"].startswith("the slope may be 0 (interval -")


def line(*, offset: float = 0.3, slope: float = 0.1, error: float | None = 0.02, variance: float = 1e-4) -> Line:
    """A line through x = 1 of 12 points with 8 degrees of freedom."""
    return Line((1.0, offset + slope), slope, 1.0, 12, variance, 8.0, error, 1.0)


def test_reasons() -> None:
    assert examples_for(0.5, line(), 100).n == 99
    assert examples_for(0.3, line(), 100).n == 0
    assert examples_for(0.2, line(), 100).n == 0
    assert examples_for(0.2, line(), 100).warning is None
    assert examples_for(0.3 + 0.1 * math.log10(1 + 100), line(), 100).n == 100
    far = examples_for(0.3 + 0.1 * math.log10(1 + 9_999), line(), 100)
    assert (far.n, far.high, far.warning) == (9_999, None, "extrapolated: only 100 examples were measured")
    refused = examples_for(0.8, line(), 100)
    assert (refused.n, refused.low, refused.high) == (None, None, None)
    assert refused.warning == "the goal 0.8 lies more than 100 times beyond the 100 examples measured"
    assert examples_for(0.5, line(slope=-0.1), 100).warning == "the score falls with examples (slope -0.100 per decade)"
    assert examples_for(0.5, line(error=None), 100).warning == "too few measurements to tell the slope"
    assert "reached without any" in str(examples_for(0.2, line(slope=0.0), 100).warning)


@pytest.mark.parametrize("goal", [0.25, 0.42, 0.5, 0.6])
def test_the_interval_ends_where_the_band_reaches_the_goal(goal: float) -> None:
    given = line()
    ends = [given.middle[0] + root for root in _fieller(goal, given)]
    q = 2.306004135204172  # t 0.975 with 8 degrees of freedom
    for x, sign in zip(ends, (1, -1), strict=True):
        band = 0.3 + 0.1 * x + sign * q * math.sqrt(1e-4 / 12 + (0.02 * (x - 1)) ** 2)
        assert band == pytest.approx(goal)
    needed = examples_for(goal, given, 100)
    assert needed.low == math.ceil(max(10 ** ends[0] - 1, 0) - 1e-9)
    assert needed.n is not None
    assert needed.low <= needed.n
    assert needed.high is None or needed.n <= needed.high


def test_the_interval_of_the_examples_covers_the_number_that_the_goal_takes() -> None:
    inside = said = 0
    for seed in range(200):
        one = fewshot_curve(table(lambda n: 0.3 + 0.1 * math.log10(1 + n), noise=0.03, seed=seed), goal=0.5).row(0, named=True)
        truth = 10 ** ((0.5 - 0.37) / 0.1) - 1
        if one["n_low"] is not None:
            said += 1
            inside += one["n_low"] - 1 <= truth <= (one["n_high"] or math.inf)
    assert said > 190
    assert 0.91 <= inside / said <= 0.99


def many(n_targets: int, *, spread: float, noise: float, seed: int) -> tuple[pl.DataFrame, dict[str, float]]:
    """Targets with slopes drawn around 0.1."""
    rng = np.random.default_rng(seed)
    slopes = {f"t{i:02d}": 0.1 + spread * rng.normal() for i in range(n_targets)}
    rows = [
        {"task": "t", "source": "en", "target": target, "seed": draw, "n_shots": n,
         "score": 0.3 + slope * math.log10(1 + n) + noise * rng.normal()}
        for target, slope in slopes.items() for draw in range(2) for n in SHOTS
    ]  # fmt: skip
    return pl.DataFrame(rows), slopes


def test_slopes_shrunk_across_targets_are_nearer_to_the_truth_and_covered() -> None:
    shrunk, alone, inside, drawn = [], [], [], []
    for seed in range(40):
        pairs, slopes = many(12, spread=0.02, noise=0.06, seed=seed)
        for row in fewshot_curve(pairs, goal=0.6).iter_rows(named=True):
            truth = slopes[row["target"]]
            shrunk.append((row["slope_per_decade"] - truth) ** 2)
            alone.append((row["slope_alone"] - truth) ** 2)
            inside.append(row["slope_low"] <= truth <= row["slope_high"])
            drawn.append(row["shrinkage"])
    assert np.mean(shrunk) < 0.7 * np.mean(alone)
    assert 0.92 <= np.mean(inside) <= 0.985
    assert 0.2 < np.mean(drawn) < 0.9


def test_well_measured_slopes_stay_their_own_and_few_targets_are_not_shrunk() -> None:
    pairs, _ = many(12, spread=0.05, noise=0.002, seed=0)
    curves = fewshot_curve(pairs, goal=0.6)
    assert curves["shrinkage"].max() < 0.02  # type: ignore[operator]
    few = fewshot_curve(pairs.filter(pl.col("target").is_in(["t00", "t01", "t02"])), goal=0.6)
    assert few["shrinkage"].to_list() == [0.0, 0.0, 0.0]
    assert few["slope_per_decade"].to_list() == pytest.approx(few["slope_alone"].to_list())


def test_what_the_law_says_beyond_the_measured_is_tested_on_the_largest_n_left_out() -> None:
    held, asked = 0, 0
    for seed in range(12):
        pairs, _ = many(12, spread=0.02, noise=0.03, seed=seed)
        found = backtest(measured_points(pairs))
        assert found is not None
        held, asked = held + found[0], asked + found[1]
    assert asked == 144
    assert 0.9 <= held / asked <= 0.99, "where the law holds, at its level"
    steeper = pairs.with_columns(score=pl.col("score") + pl.when(pl.col("n_shots") == 100).then(0.3).otherwise(0.0))
    assert backtest(measured_points(steeper)) == (0, 12)
    curves = fewshot_curve(steeper, goal=0.9).filter(pl.col("n_for_goal") > 100)
    assert curves.height > 6
    assert curves["warning"].str.contains("left out, the largest n fell into its interval for 0 of 12 targets").all()
    assert backtest(measured_points(pairs.filter(pl.col("n_shots") < 30))) is None


def test_laws_are_compared_inside_targets() -> None:
    pairs, _ = many(12, spread=0.01, noise=0.01, seed=0)
    row = laws(pairs).row(0, named=True)
    assert row["n_targets"] == 12
    assert row["r2_log"] > max(row["r2_linear"], row["r2_step"])
    levels = pairs.with_columns(score=pl.col("score") + pl.col("target").str.slice(1).cast(pl.Float64) / 50)
    assert laws(levels).row(0)[2:5] == pytest.approx(laws(pairs).row(0)[2:5]), "levels of targets do not count"


def test_curves_are_those_of_the_source_ranked_first_or_of_all_where_it_has_one_n() -> None:
    pairs = pl.DataFrame([
        {"task": "t", "source": source, "target": target, "n_shots": n, "score": 0.1}
        for target, source, n in [
            ("x", "a", 0), ("x", "a", 9), ("x", "b", 0), ("x", "b", 9), ("y", "a:5+b:5", 0), ("y", "a:5+b:9", 9), ("z", "a", 0),
        ]
    ])  # fmt: skip
    ranked = pl.DataFrame({"task": "t", "target": ["x", "y"], "source": ["a", "a:5+b:5"], "rank": 1})
    kept = of_choice(pairs, ranked).select("target", "source", "n_shots").rows()
    assert kept == [("x", "a", 0), ("x", "a", 9), ("y", "a:5+b:5", 0), ("y", "a:5+b:9", 9)]
    assert fewshot_curve(of_choice(pairs, ranked), goal=0.5).select("target", "source").rows() == [("x", "a"), ("y", None)]


def test_within_line_is_least_squares_with_dummies() -> None:
    rng = np.random.default_rng(0)
    series = np.repeat([0, 1, 2], 5)
    x, y = rng.normal(size=15), rng.normal(size=15)
    design = np.column_stack([x, *(series == k for k in range(3))]).astype(float)
    beta, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = math.sqrt(residual[0] / 11 * np.linalg.inv(design.T @ design)[0, 0])
    found = within_line(x, y, series)
    assert found is not None
    assert found.slope == pytest.approx(beta[0])
    assert found.offset == pytest.approx(beta[1:].mean())
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(beta[0] - 2.200985160082949 * error)  # t 0.975 with 11 degrees of freedom
    assert within_line(np.ones(15), y, series) is None


def test_a_source_that_misses_some_n_does_not_tilt_the_curve() -> None:
    full = table(lambda n: 0.3 + 0.1 * math.log10(1 + n))
    extra = pl.DataFrame([{"task": "t", "source": "bad", "target": "x", "seed": 0, "n_shots": 100, "score": 0.0}])
    in_language = pl.DataFrame([{"task": "t", "source": "x", "target": "x", "seed": 0, "n_shots": 0, "score": 0.9}])
    assert fewshot_curve(pl.concat([full, extra, in_language]), goal=0.6).equals(fewshot_curve(full, goal=0.6))


def test_a_plain_user_table_and_tables_without_shots() -> None:
    plain = pl.DataFrame({"task": ["t"] * 3, "target": ["x"] * 3, "n_shots": [0, 9, 99], "score": [0.1, 0.3, 0.5]})
    assert fewshot_curve(plain, goal=0.7)["n_for_goal"].to_list() == [999]
    assert fewshot_curve(plain.filter(pl.col("n_shots") == 0), goal=0.7).is_empty()
    with pytest.raises(InputProblem, match="no column 'n_shots'"):
        fewshot_curve(plain.drop("n_shots"), goal=0.7)
