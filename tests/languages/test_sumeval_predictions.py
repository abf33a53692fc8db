"""Predictions on published results (SumEval, XLM-R): new mixtures of seen languages, and languages that nobody saw."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl
import pytest

from stages.languages import PAIR_FEATURES, fit_transfer_model, mix
from stages.languages.mixtures import Distance, mixture_features

pytestmark = pytest.mark.real

DISTANCES = ("syntax_distance", "phonology_distance", "inventory_distance", "genetic_distance", "geographic_distance")


def distance(name: str) -> Distance:
    return cache(lambda source, target: PAIR_FEATURES[name](source, target, {}))


def table(folder: Path, task: str) -> pl.DataFrame:
    """The rows of one task with a source for each mixture, its features and the split."""
    rows = pl.read_parquet(folder / "language" / "sumeval.parquet").filter(
        (pl.col("task") == task) & (pl.col("model") == "XLMR")
    )
    written = {config: mix.parse(config) for config in rows["config"].unique()}
    mixtures = {config: {name: n for name, n in members.items() if n} for config, members in written.items()}
    features = mixture_features(
        [mixtures[config] for config in rows["config"]],
        rows["target"].to_list(),
        {name: distance(name) for name in DISTANCES},
    )
    named = rows.select("task", "target", "score", "split", source=pl.format("{} {}", "split", "config_id"))
    return named.hstack(features)


def judged(found: pl.DataFrame, asked: pl.DataFrame) -> tuple[float, float]:
    """Return the mean absolute error and the coverage of the 90% intervals."""
    both = found.join(asked, on=["source", "target"])
    assert both.height == asked.height
    error = (both["predicted"] - both["score"]).abs()
    return error.mean(), both.select(pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high")).mean()).item()


def test_new_mixtures_of_seen_languages(real_inputs: Path) -> None:
    rows = table(real_inputs, "WikiANN")
    train, test = (rows.filter(pl.col("split") == split).drop("split") for split in ("train", "test"))
    model = fit_transfer_model(train, protocol="seen_target", model_name="boosting", blocks=3)
    error, covered = judged(model.predict(test), test.select("source", "target", "score"))
    assert error <= 0.010
    assert 0.86 < covered < 0.94
    plain = fit_transfer_model(train, protocol="seen_target", model_name="target_mean", blocks=3)
    assert judged(plain.predict(test), test.select("source", "target", "score"))[0] > 2 * error


@pytest.mark.parametrize("split", ["surprise_same", "surprise_diff"])
def test_unseen_languages_are_no_better_than_the_global_mean_and_are_not_like_the_seen(real_inputs: Path, split: str) -> None:
    """The surprise languages have less text than those seen, which no feature tells: 90% intervals promise likeness."""
    rows = table(real_inputs, "WikiANN")
    seen = rows.filter((pl.col("split") == "train") & (pl.col("log_target_examples") == 0)).drop("split")
    asked = rows.filter(pl.col("split") == split).drop("split")
    truth = asked.select("source", "target", "score")
    mean, of_mean = judged(fit_transfer_model(seen, model_name="global_mean").predict(asked), truth)
    models = ["global_mean", "combined_distance", "ridge"]
    error, covered = judged(fit_transfer_model(seen, models=models).predict(asked), truth)
    assert 0.11 < mean < 0.12
    assert error < 1.1 * mean
    assert of_mean < 0.7 < covered < 0.9
