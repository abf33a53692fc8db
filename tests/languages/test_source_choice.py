"""Choosing a source: regret, sets, and the rules that it is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from stages.languages import rank_sources
from stages.languages.choose import choices, compare_choices, ndcg, random_ndcg
from stages.languages.predict import held_out_predictions

Planted = Callable[..., pl.DataFrame]


def predictions(n: int, noise: float, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"l{i:02d}" for i in range(n)]
    rows = [{"source": s, "target": t, "score": float(rng.uniform())} for s in names for t in names if s != t]
    table = pl.DataFrame(rows).with_columns(
        task=pl.lit("t"), model=pl.lit("chosen_by_regret"), split_protocol=pl.lit("leave_one_target_out"), in_set=pl.lit(True),
        interval_low=pl.lit(None, pl.Float64), interval_high=pl.lit(None, pl.Float64),
    )  # fmt: skip
    return table.with_columns(predicted=pl.col("score") + pl.Series(rng.normal(0, 1, table.height)) * noise)


def test_a_true_prediction_costs_nothing() -> None:
    found = rank_sources(predictions(12, noise=0.0))
    assert found.filter(pl.col("rank") == 1)["regret"].to_list() == [0.0] * 12
    assert (
        found.sort("target", "rank")["measured"].to_list()
        == found.sort("target", "measured", descending=[False, True])["measured"].to_list()
    )


def test_regret_by_brute_force_and_a_target_is_not_its_own_source() -> None:
    table = predictions(6, noise=0.4)
    found = rank_sources(table)
    assert (found["source"] != found["target"]).all()
    assert found.height == 30
    for target in table["target"].unique():
        rows = table.filter(pl.col("target") == target).to_dicts()
        first = max(rows, key=lambda row: row["predicted"])
        expected = max(row["score"] for row in rows) - first["score"]
        top = found.filter((pl.col("target") == target) & (pl.col("rank") == 1)).row(0, named=True)
        assert top["source"] == first["source"]
        assert top["regret"] == pytest.approx(expected)


def test_sets_hold_the_best_source_as_often_as_promised(planted: Planted) -> None:
    held, sizes = [], []
    for seed in range(12):
        table = held_out_predictions(planted(20, seed=seed, noise=0.08), models=["ridge"])
        found = rank_sources(table)
        held.append(found.filter(pl.col("regret") == 0)["conformal_set"].mean())
        sizes.append(found["conformal_set"].mean())
    assert 0.86 < np.mean(held) < 0.98
    assert np.mean(sizes) < 0.8


def test_with_too_few_targets_no_source_is_ruled_out(planted: Planted) -> None:
    assert rank_sources(held_out_predictions(planted(6), models=["ridge"]))["conformal_set"].all()


def test_ndcg_by_hand() -> None:
    scores = np.array([0.2, 0.6, 1.0, 0.4])  # gains 0, 0.5, 1, 0.25
    discount = 1 / np.log2([2, 3, 4])
    ideal = np.array([1, 0.5, 0.25]) @ discount
    assert ndcg(scores, scores) == pytest.approx(1.0)
    assert ndcg(scores, -scores) == pytest.approx(np.array([0, 0.25, 0.5]) @ discount / ideal)
    assert ndcg(np.full(4, 0.3), scores) is None
    rng = np.random.default_rng(0)
    drawn = [ndcg(scores, rng.uniform(size=4)) for _ in range(4000)]
    assert random_ndcg(scores) == pytest.approx(np.mean([value for value in drawn if value is not None]), abs=0.01)


def test_the_models_beside_the_plain_rules(planted: Planted) -> None:
    pairs = planted(12)
    table = choices(pairs, held_out_predictions(pairs))
    assert set(table["rule"]) == {
        "chosen", "chosen_by_regret", "ridge", "boosting", "lambdarank", "combined_distance", "source_mean", "english",
        "nearest_x", "random",
    }  # fmt: skip
    regret = dict(table.select("rule", "mean_regret").iter_rows())
    assert max(regret[name] for name in ("ridge", "lambdarank", "combined_distance")) < 0.5 * regret["random"]


def test_rules_are_compared_on_the_same_targets(planted: Planted) -> None:
    pairs = planted(10)
    found = compare_choices(pairs, rank_sources(held_out_predictions(pairs)))
    assert set(found["rule"]) == {"model", "english", "nearest_x", "random"}
    assert set(found["n_targets"]) == {9}
    zero = pairs.filter((pl.col("source") != pl.col("target")) & (pl.col("target") != "en"))
    best = zero.group_by("target").agg(best=pl.col("score").max())
    english = zero.filter(pl.col("source") == "en").join(best, on="target")
    regret = dict(found.select("rule", "mean_regret").iter_rows())
    assert regret["english"] == pytest.approx((english["best"] - english["score"]).mean())
    assert regret["model"] < regret["random"]
