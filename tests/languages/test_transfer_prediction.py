"""Predictions: baselines by hand, ridge against scikit-learn, no leak, and intervals that cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from stages.errors import InputProblem
from stages.languages import fit_transfer_model
from stages.languages.baselines import always_english, global_mean, nearest, source_mean, target_mean
from stages.languages.conformal import half_width, quantile, shortfalls
from stages.languages.design import Pairs, feature_columns, zero_shot
from stages.languages.predict import held_out_predictions, model_names, quality
from stages.languages.ridge import Scale, paths

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
    seen, asked = (
        every.where((every.targets != "d") & (every.sources != "d")),
        every.where(every.targets == "d"),
    )  # sources b, c, en
    assert asked.sources.tolist() == ["b", "c", "en"]
    assert global_mean(seen)(asked) == pytest.approx([(0.8 + 0.6 + 0.7 + 0.5 + 0.4 + 0.45) / 6] * 3)
    assert source_mean(seen)(asked) == pytest.approx([0.6, 0.425, 0.7])
    assert always_english(seen)(asked) == pytest.approx([0.7] * 3)
    assert np.isnan(target_mean(seen)(asked)).all()
    assert target_mean(every)(asked) == pytest.approx([(0.3 + 0.2 + 0.35) / 3] * 3)
    # c is nearest to d, then b: b -> c is 0.5, en -> c is 0.6; c itself cannot be its own source, so c -> b counts
    assert nearest("line_distance")(seen)(asked) == pytest.approx([0.5, 0.45, 0.6])


def test_a_new_source_is_told_by_the_nearest_source() -> None:
    every = Pairs.of(zero_shot(hand_made())).knowing(("target",))
    seen, asked = every.where(every.sources != "c"), every.where(every.sources == "c")  # targets b, d, en
    assert asked.targets.tolist() == ["b", "d", "en"]
    # b is nearest to c, then en, then d: b -> d is 0.2, b -> en is 0.7; b is not its own source, so en -> b counts
    assert nearest("line_distance")(seen)(asked) == pytest.approx([0.8, 0.2, 0.7])


def test_no_answer_where_english_is_the_target() -> None:
    found = held_out_predictions(hand_made())
    assert found.filter((pl.col("model") == "always_english") & (pl.col("target") == "en")).is_empty()
    assert found.filter((pl.col("model") == "global_mean") & (pl.col("target") == "en")).height == 3
    assert found["interval_low"].null_count() == found.height, "three targets cannot give a 90% interval"


def test_every_pair_once_per_model(planted: Planted) -> None:
    pairs = planted(6)
    found = held_out_predictions(pairs)
    assert model_names(pairs) == [
        "nearest_x", "global_mean", "source_mean", "target_mean", "always_english", "combined_distance", "ridge", "boosting",
        "lambdarank",
    ]  # fmt: skip
    assert set(found["model"]) == {*model_names(pairs), "chosen", "chosen_by_regret"} - {"target_mean"}, (
        "nothing is known of a new target"
    )
    assert found.filter(pl.col("model") == "ridge").height == 30
    assert (found["source"] != found["target"]).all()
    assert found["predicted"].is_between(0, 1).all()


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


def test_a_mean_leaves_the_pairs_own_score_out() -> None:
    every = Pairs.of(zero_shot(hand_made()))
    of_source = {(s, t): v for s, t, v in zip(every.sources, every.targets, every.mean_of_others(every, "source"), strict=True)}
    of_target = {(s, t): v for s, t, v in zip(every.sources, every.targets, every.mean_of_others(every, "target"), strict=True)}
    assert of_source["en", "b"] == pytest.approx((0.6 + 0.3) / 2)
    assert of_source["d", "c"] == pytest.approx((0.1 + 0.15) / 2)
    assert of_target["en", "b"] == pytest.approx((0.45 + 0.15) / 2)
    one = every.where((every.sources == "en") & (every.targets == "b"))
    assert np.isnan(one.mean_of_others(one, "source")).all()
    rest = every.where(every.sources != "d")
    assert np.isnan(rest.mean_of_others(every.where(every.sources == "d"), "source")).all(), "d was not seen as a source"


def test_models_find_the_planted_law_and_scrambled_scores_teach_nothing(planted: Planted) -> None:
    pairs = planted(14)
    rng = np.random.default_rng(1)
    scrambled = pairs.with_columns(score=pl.Series(rng.permutation(pairs["score"].to_numpy())))
    for model in ("ridge", "boosting", "lambdarank", "combined_distance"):
        good, nothing = (
            quality(held_out_predictions(t, models=[model])).row(0, named=True)["r2"] for t in (pairs, scrambled)
        )  # fmt: skip
        assert good > 0.8, model
        assert nothing < 0.05, model


def test_intervals_cover_new_targets(planted: Planted) -> None:
    covered = []
    for seed in range(8):
        found = held_out_predictions(planted(14, seed=seed, noise=0.03, target_effect=0.05), models=["ridge"])
        found = found.filter(pl.col("model") == "chosen")
        covered.append(found.select(pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high")).mean()).item())
    assert 0.87 < np.mean(covered) < 0.99


def test_the_quantile_counts_targets_not_pairs() -> None:
    errors, targets = np.arange(1.0, 11.0), np.arange(10)
    assert half_width(errors, targets, 0.9) == 10  # ceil(0.9 * 11) = 10th of ten
    assert half_width(errors[:8], targets[:8], 0.9) is None
    uneven = np.concatenate([np.full(900, 1.0), np.arange(2.0, 12.0)])
    assert half_width(uneven, np.array([99] * 900 + targets.tolist()), 0.9) == 11
    assert half_width(uneven, np.array([99] * 900 + targets.tolist()), 0.5) == 6
    assert half_width(np.empty(0), np.empty(0, dtype=np.int64), 0.9) is None
    assert (quantile(np.arange(1.0, 11.0), 0.9), quantile(np.arange(8.0), 0.9)) == (10, np.inf)


def test_shortfall_by_hand() -> None:
    predicted, scores = np.array([0.9, 0.8, 0.1, 0.5, 0.4]), np.array([0.2, 0.6, 0.6, 0.7, 0.1])
    assert shortfalls(predicted, scores, np.array([3, 3, 3, 8, 8])) == pytest.approx(
        [0.1, 0.0]
    )  # of two best the one put higher


def test_fitted_model_predicts_a_language_that_was_never_measured(planted: Planted) -> None:
    pairs = planted(14)
    known, new = (
        pairs.filter(~((pl.col("source") == "l05") | (pl.col("target") == "l05"))),
        pairs.filter((pl.col("target") == "l05") & (pl.col("source") != "l05")),
    )
    asked = new.drop("score")
    model = fit_transfer_model(known)
    found = model.predict(asked)
    assert found.columns == ["source", "target", "predicted", "interval_low", "interval_high", "warning"]
    assert found.height == 13
    error = (found["predicted"] - new.sort("source")["score"]).abs()
    assert error.mean() < 0.04
    assert found["warning"].null_count() == 13
    far = model.predict(asked.with_columns(x_distance=pl.lit(7.0)))
    assert far["warning"].to_list() == ["outside the range of the training languages: x_distance"] * 13
    assert far["predicted"].is_between(0, 1).all()


def test_a_mean_that_is_asked_of_a_new_language_is_unchanged_by_the_machinery(planted: Planted) -> None:
    pairs = planted(14)
    apart = (pl.col("source") == "l05") | (pl.col("target") == "l05")
    asked = pairs.filter((pl.col("target") == "l05") & (pl.col("source") != "l05"))
    found = fit_transfer_model(pairs.filter(~apart), model_name="source_mean").predict(asked)
    made = held_out_predictions(pairs, models=["source_mean"]).filter(
        (pl.col("target") == "l05") & (pl.col("model") == "source_mean")
    )
    np.testing.assert_allclose(found.sort("source")["predicted"], made.sort("source")["predicted"], atol=1e-12)


def test_measured_sources_shift_the_rest(planted: Planted) -> None:
    pairs = planted(16, noise=0.005, target_effect=0.1)
    involved = (pl.col("source") == "l05") | (pl.col("target") == "l05")
    new = pairs.filter((pl.col("target") == "l05") & (pl.col("source") != "l05"))
    model = fit_transfer_model(pairs.filter(~involved), models=["ridge"])
    anchors = new.sort("source").head(3)
    plain, shifted = model.predict(new.drop("score")), model.predict(new.drop("score"), measured=anchors)
    truth = new.sort("source")["score"]
    rest = ~plain["source"].is_in(anchors["source"].to_list())
    before, after = ((found["predicted"] - truth).filter(rest).abs().mean() for found in (plain, shifted))
    assert after < 0.6 * before
    width = [found.select((pl.col("interval_high") - pl.col("interval_low")).max()).item() for found in (plain, shifted)]
    assert width[1] < width[0]
    step = (shifted["predicted"] - plain["predicted"]).to_numpy()
    assert np.ptp(step) < 1e-9, "one shift for the target, no clipping here"


def test_wrong_tables_are_answers(planted: Planted) -> None:
    pairs = planted(6)
    with pytest.raises(InputProblem, match="exactly one task"):
        fit_transfer_model(pl.concat([pairs, pairs.with_columns(task=pl.lit("u"))]))
    with pytest.raises(InputProblem, match="3 targets"):
        fit_transfer_model(pairs.filter(pl.col("target").is_in(["en", "l01"])))
    with pytest.raises(InputProblem, match="no column 'score'"):
        held_out_predictions(pairs.drop("score"))
    with pytest.raises(InputProblem, match="no transfer model named 'rigde'; nearest valid: ridge"):
        held_out_predictions(pairs, models=["rigde"])


def test_columns_that_may_predict(planted: Planted) -> None:
    table = planted(3).with_columns(x_coverage=pl.lit(1.0), note=pl.lit("text"), n_source=pl.lit(5))
    assert feature_columns(table) == ["irrelevant", "x_distance"]
