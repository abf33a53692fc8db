"""Few-shot curves: the planted law comes back, and what cannot be promised is refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from stages.errors import InputProblem
from stages.languages import fewshot_curve
from stages.languages.fewshot import Line, examples_for, within_line

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
    assert row["warning"] == "extrapolated: only 100 examples were measured"


@pytest.mark.parametrize(
    ("shape", "law"), [("r2_linear", lambda n: 0.3 + 0.002 * n), ("r2_step", lambda n: 0.3 + 0.2 * (n > 0))]
)
def test_another_law_is_told_from_the_logarithm(shape: str, law: Callable[[float], float]) -> None:
    row = fewshot_curve(table(law), goal=0.6).row(0, named=True)
    assert row[shape] == pytest.approx(1)
    assert row["r2_log"] < 0.95


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


def test_reasons() -> None:
    line = Line(0.3, 0.1, 0.05, 0.15, 1.0)
    assert examples_for(0.5, line, 100) == (99, None)
    assert examples_for(0.3, line, 100) == (0, None)
    assert examples_for(0.2, line, 100) == (0, None)
    assert examples_for(0.3 + 0.1 * math.log10(1 + 100), line, 100) == (100, None)
    assert examples_for(0.3 + 0.1 * math.log10(1 + 9_999), line, 100) == (
        9_999,
        "extrapolated: only 100 examples were measured",
    )
    refused, reason = examples_for(0.8, line, 100)
    assert refused is None
    assert reason == "the goal 0.8 lies more than 100 times beyond the 100 examples measured"
    assert (
        examples_for(0.5, Line(0.3, -0.1, -0.15, -0.05, 1.0), 100)[1]
        == "the score falls with examples (slope -0.100 per decade)"
    )
    assert examples_for(0.5, Line(0.3, 0.1, None, None, 1.0), 100)[1] == "too few measurements to tell the slope"
    assert "reached without any" in str(examples_for(0.2, Line(0.3, 0.0, -0.1, 0.1, 0.0), 100)[1])


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
    assert found.low == pytest.approx(beta[0] - 2.200985160082949 * error)  # t 0.975 with 11 degrees of freedom
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
