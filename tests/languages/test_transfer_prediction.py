"""Predictions: baselines by hand, ridge against scikit-learn, no leak, and intervals that cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from stages.errors import InputProblem
from stages.languages import fit_transfer_model
from stages.languages.baselines import always_english, global_mean, nearest, source_mean
from stages.languages.design import Pairs, feature_columns, zero_shot
from stages.languages.predict import conformal_half_width, leave_one_target_out, model_names, quality
from stages.languages.ridge import Scale, paths, strength, target_folds

Planted = Callable[..., pl.DataFrame]


def hand_made() -> pl.DataFrame:
    """Four languages on a line: en 0, b 1, c 3, d 7."""
    place = {"en": 0.0, "b": 1.0, "c": 3.0, "d": 7.0}
    score = {
        ("en", "b"): 0.8, ("en", "c"): 0.6, ("en", "d"): 0.3, ("b", "en"): 0.7, ("b", "c"): 0.5, ("b", "d"): 0.2,
        ("c", "en"): 0.4, ("c", "b"): 0.45, ("c", "d"): 0.35, ("d", "en"): 0.1, ("d", "b"): 0.15, ("d", "c"): 0.25,
    }  # fmt: skip
    return pl.DataFrame(
        [{"task": "t", "source": s, "target": t, "score": y, "line_distance": abs(place[s] - place[t])}
         for (s, t), y in score.items()]
    )  # fmt: skip


def test_baselines_by_hand() -> None:
    every = Pairs.of(zero_shot(hand_made()))
    seen, asked = every.without(np.array([every.position("d")])), every.where(every.targets == "d")  # sources b, c, en
    assert asked.sources.tolist() == ["b", "c", "en"]
    assert global_mean(seen)(asked) == pytest.approx([(0.8 + 0.6 + 0.7 + 0.5 + 0.4 + 0.45) / 6] * 3)
    assert source_mean(seen)(asked) == pytest.approx([0.6, 0.425, 0.7])
    assert always_english(seen)(asked) == pytest.approx([0.7] * 3)
    # c is nearest to d, then b: b -> c is 0.5, en -> c is 0.6; c itself cannot be its own source, so c -> b counts
    assert nearest("line_distance")(seen)(asked) == pytest.approx([0.5, 0.45, 0.6])


def test_no_answer_where_english_is_the_target() -> None:
    found = leave_one_target_out(hand_made())
    assert found.filter((pl.col("model") == "always_english") & (pl.col("target") == "en")).is_empty()
    assert found.filter((pl.col("model") == "global_mean") & (pl.col("target") == "en")).height == 3
    assert found["interval_low"].null_count() == found.height, "three targets cannot give a 90% interval"


def test_every_pair_once_per_model(planted: Planted) -> None:
    pairs = planted(6)
    found = leave_one_target_out(pairs)
    assert set(found["model"]) == set(model_names(pairs)) == {
        "global_mean", "source_mean", "always_english", "ridge", "nearest_x",
    }  # fmt: skip
    assert found.filter(pl.col("model") == "ridge").height == 30
    assert (found["source"] != found["target"]).all()
    assert found["predicted"].is_between(0, 1).all()


def test_the_target_is_never_seen_as_target_or_as_source(planted: Planted) -> None:
    pairs = planted(12)
    involved = (pl.col("target") == "l03") | (pl.col("source") == "l03")
    rng = np.random.default_rng(5)
    scrambled = pairs.with_columns(
        score=pl.when(involved).then(pl.Series(rng.uniform(0, 1, pairs.height))).otherwise(pl.col("score"))
    )
    asked = ["model", "source", "predicted", "interval_low", "interval_high"]
    before, after = (leave_one_target_out(t).filter(pl.col("target") == "l03").select(asked) for t in (pairs, scrambled))
    assert before.equals(after)
    others = (leave_one_target_out(t).filter(pl.col("target") != "l03").select(asked) for t in (pairs, scrambled))
    assert not next(others).equals(next(others))


def test_the_path_of_penalties_is_scikit_learns_ridge() -> None:
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(40, 6)), rng.uniform(size=40)
    features[:, 5] = features[:, 4]  # not of full rank
    standardised = Scale.of(features)(features)
    alphas = np.array([0.1, 3.0, 100.0])
    for alpha, coefficients in zip(alphas, paths(standardised, scores, alphas), strict=True):
        model = Ridge(alpha=alpha).fit(standardised, scores)
        np.testing.assert_allclose(coefficients, model.coef_, atol=1e-10)


def test_unknown_is_the_mean_and_constant_is_nothing() -> None:
    features = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    np.testing.assert_allclose(Scale.of(features)(features), [[-1, 0], [1, 0], [0, 0]])


def test_strength_leaves_the_pairs_own_target_out() -> None:
    every = Pairs.of(zero_shot(hand_made()))
    found = {(s, t): v for s, t, v in zip(every.sources, every.targets, strength(every, every), strict=True)}
    assert found["en", "b"] == pytest.approx((0.6 + 0.3) / 2)
    assert found["d", "c"] == pytest.approx((0.1 + 0.15) / 2)
    one = every.where((every.sources == "en") & (every.targets == "b"))
    assert np.isnan(strength(one, one)).all()


def test_folds_are_a_partition() -> None:
    targets = np.array([3, 1, 0, 7, 5, 3])
    folds = [fold.tolist() for fold in target_folds(targets, 3)]
    assert sorted(name for fold in folds for name in fold) == [0, 1, 3, 5, 7]
    assert len(folds) == 3


def test_ridge_finds_the_planted_law_and_scrambled_scores_teach_nothing(planted: Planted) -> None:
    pairs = planted(14)
    rng = np.random.default_rng(1)
    scrambled = pairs.with_columns(score=pl.Series(rng.permutation(pairs["score"].to_numpy())))
    good, nothing = (quality(leave_one_target_out(t, models=["ridge"])).row(0, named=True)["r2"] for t in (pairs, scrambled))
    assert good > 0.85
    assert nothing < 0.05


def test_intervals_cover_new_targets(planted: Planted) -> None:
    covered = []
    for seed in range(8):
        found = leave_one_target_out(planted(14, seed=seed, noise=0.03, target_effect=0.05), models=["ridge"])
        covered.append(found.select(pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high")).mean()).item())
    assert 0.87 < np.mean(covered) < 0.99


def test_the_quantile_counts_targets_not_pairs() -> None:
    errors, targets = np.arange(1.0, 11.0), np.arange(10)
    assert conformal_half_width(errors, targets, 0.9) == 10  # ceil(0.9 * 11) = 10th of ten
    assert conformal_half_width(errors[:8], targets[:8], 0.9) is None
    uneven = np.concatenate([np.full(900, 1.0), np.arange(2.0, 12.0)])
    assert conformal_half_width(uneven, np.array([99] * 900 + targets.tolist()), 0.9) == 11
    assert conformal_half_width(uneven, np.array([99] * 900 + targets.tolist()), 0.5) == 6


def test_fitted_model_predicts_a_language_that_was_never_measured(planted: Planted) -> None:
    pairs = planted(14)
    known, new = (
        pairs.filter(~((pl.col("source") == "l05") | (pl.col("target") == "l05"))),
        pairs.filter((pl.col("target") == "l05") & (pl.col("source") != "l05")),
    )
    asked = new.drop("score")
    found = fit_transfer_model(known).predict(asked)
    assert found.columns == ["source", "target", "predicted", "interval_low", "interval_high"]
    both = found.join(
        leave_one_target_out(pairs, models=["ridge"]).filter(pl.col("target") == "l05"),
        on=["source", "target"],
        suffix="_of_table",
    )
    assert both.height == 13
    for name in ("predicted", "interval_low", "interval_high"):
        np.testing.assert_allclose(both[name], both[name + "_of_table"], atol=1e-12)


def test_wrong_tables_are_answers(planted: Planted) -> None:
    pairs = planted(6)
    with pytest.raises(InputProblem, match="exactly one task"):
        fit_transfer_model(pl.concat([pairs, pairs.with_columns(task=pl.lit("u"))]))
    with pytest.raises(InputProblem, match="3 targets"):
        fit_transfer_model(pairs.filter(pl.col("target").is_in(["en", "l01"])))
    with pytest.raises(InputProblem, match="no column 'score'"):
        leave_one_target_out(pairs.drop("score"))
    with pytest.raises(InputProblem, match="no transfer model named 'rigde'; nearest valid: ridge"):
        leave_one_target_out(pairs, models=["rigde"])


def test_columns_that_may_predict(planted: Planted) -> None:
    table = planted(3).with_columns(x_coverage=pl.lit(1.0), note=pl.lit("text"), n_source=pl.lit(5))
    assert feature_columns(table) == ["irrelevant", "x_distance"]
