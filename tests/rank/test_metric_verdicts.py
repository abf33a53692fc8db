"""Verdicts: a brute-force bootstrap, chance that is called chance, and metrics that do agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from scipy import stats

from stages.artifacts import tables
from stages.rank.agreement import RESAMPLES
from stages.rank.compare import agreements, verdicts
from stages.rank.verdict import BETTER, OPEN, UNKNOWN, WORSE, Comparison, Study
from stages.seeds import integer_seed

NAMES = tuple(f"e{index}" for index in range(8))


def seed(*names: str) -> int:
    return integer_seed(0, *names)


def comparison(
    target: str, stream: np.random.Generator, noise: Sequence[float], mode: str = "full", layers: int = 1
) -> Comparison:
    """One metric for each amount of noise added to the accuracies; an infinite amount is noise alone."""
    encoders = tuple(name for name in NAMES for _ in range(layers))
    accuracies = stream.uniform(size=len(encoders))
    scores = [
        stream.normal(size=len(encoders)) if np.isinf(amount) else accuracies + amount * stream.normal(size=len(encoders))
        for amount in noise
    ]
    return Comparison(target, mode, encoders, np.array(scores), accuracies)


def study(parts: list[Comparison], key: int = 5) -> Study:
    return Study(tuple(f"m{index}" for index in range(len(parts[0].scores))), tuple(parts), key)


def test_interval_and_means_are_those_of_a_plain_loop() -> None:
    stream = np.random.default_rng(0)
    parts = [comparison("a", stream, [0.3]), comparison("a", stream, [0.3], "linear", layers=2), comparison("b", stream, [0.3])]
    (row,) = study(parts).verdicts([0, 1, 2])
    taus = [stats.weightedtau(part.scores[0], part.accuracies).statistic for part in parts]
    assert row["weighted_kendall"] == pytest.approx(np.mean(taus))
    assert row["top1_regret"] == pytest.approx(
        np.mean([part.accuracies.max() - part.accuracies[part.scores[0].argmax()] for part in parts])
    )
    assert row["random_regret"] == pytest.approx(np.mean([part.accuracies.max() - part.accuracies.mean() for part in parts]))

    encoder_draws = np.random.default_rng(5).integers(0, 8, (RESAMPLES, 8))
    target_draws = np.random.default_rng([5, 2]).integers(0, 2, (RESAMPLES, 2))
    means = []
    for encoders, targets in zip(encoder_draws, target_draws, strict=True):
        drawn = []
        for target in targets:
            for part in parts:
                if part.target != "ab"[target]:
                    continue
                rows = [row for index in encoders for row, name in enumerate(part.encoders) if name == NAMES[index]]
                drawn.append(stats.weightedtau(part.scores[0][rows], part.accuracies[rows]).statistic)
        means.append(np.mean(drawn))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)
    assert (row["n_targets"], row["n_comparisons"], row["n_encoders"]) == (2, 3, 8)


def test_p_of_one_comparison_is_the_exact_permutation_test() -> None:
    """With five encoders all 120 orders can be listed; the share found by dealing lies within its sampling error."""
    from itertools import permutations

    x, y = np.array([0.1, 0.9, 0.5, 0.7, 0.3]), np.array([0.6, 0.9, 0.8, 0.65, 0.5])
    part = Comparison("t", "full", NAMES[:5], x[None], y)
    (row,) = study([part]).verdicts([0])
    observed = stats.weightedtau(x, y).statistic
    exact = np.mean([stats.weightedtau(x, y[list(order)]).statistic >= observed - 1e-12 for order in permutations(range(5))])
    assert row["p_chance"] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2000))
    assert row["p_adjusted"] == row["p_chance"]  # one metric alone needs no adjustment


def test_a_metric_that_agrees_one_that_misleads_and_one_that_says_nothing() -> None:
    stream = np.random.default_rng(3)
    parts = [comparison(target, stream, [0.05, np.inf]) for target in "abc"]
    parts = [
        Comparison(part.target, part.mode, part.encoders, np.vstack([part.scores, -part.scores[:1]]), part.accuracies)
        for part in parts
    ]
    agrees, noise, misleads = study(parts).verdicts([0, 1, 2])
    assert [agrees["verdict"], noise["verdict"], misleads["verdict"]] == [BETTER, OPEN, WORSE]
    assert [agrees["place"], noise["place"], misleads["place"]] == [1, 2, 3]
    assert agrees["p_chance"] <= agrees["p_adjusted"] < 0.05
    assert misleads["weighted_kendall"] < -0.5


@pytest.mark.parametrize(("layers", "studies"), [(1, 30), (2, 15)])
def test_noise_is_rarely_called_better_than_chance(layers: int, studies: int) -> None:
    """Five metrics of noise, three targets: by the adjustment, at most one study in twenty finds any of them better."""
    stream = np.random.default_rng(layers)
    false = 0
    for key in range(studies):
        parts = [comparison(target, stream, [np.inf] * 5, layers=layers) for target in "abc"]
        false += any(row["verdict"] == BETTER for row in study(parts, key).verdicts([0, 1, 2]))
    assert false <= stats.binom.ppf(0.999, studies, 0.05)


def test_few_encoders_get_no_verdict_and_missing_scores_stay_out() -> None:
    stream = np.random.default_rng(4)
    full = comparison("a", stream, [0.01, 0.01, 0.01])
    scores = full.scores.copy()
    scores[1, 2:] = np.nan  # two encoders
    scores[2] = np.nan
    good, few, none = study([Comparison("a", "full", full.encoders, scores, full.accuracies)]).verdicts([0])
    assert good["verdict"] == BETTER
    assert (few["verdict"], few["n_encoders"], few["ci_low"], few["p_chance"]) == (UNKNOWN, 2, None, None)
    assert (none["verdict"], none["n_encoders"], none["weighted_kendall"], none["place"]) == (UNKNOWN, 0, None, None)


def pairs() -> pl.DataFrame:
    """Two targets, two layers an encoder; `needs_head` has no score for the last three encoders."""
    stream = np.random.default_rng(6)
    rows = []
    for target in ("small", "large"):
        for index, encoder in enumerate(NAMES):
            for layer in ("deep", "pooled"):
                accuracy = 0.1 * index + 0.02 * (layer == "pooled")
                row = {"target": target, "encoder": encoder, "layer": layer, "accuracy": accuracy, "higher_is_better": True}
                for mode in ("linear", "layers") if layer == "pooled" else ("layers",):
                    score = accuracy + 0.05 * stream.normal()
                    rows += [
                        {**row, "mode": mode, "metric": "good", "score": score},
                        {**row, "mode": mode, "metric": "lower", "score": -score, "higher_is_better": False},
                        {**row, "mode": mode, "metric": "needs_head", "score": None if index > 4 else score},
                    ]
    return pl.DataFrame(rows, schema_overrides={"score": pl.Float64})


def test_the_tables_from_pairs() -> None:
    frame = pairs()
    agreed = tables.frame("agreement", agreements(frame, seed))
    of_layers = agreed.filter(pl.col("mode") == "layers", pl.col("metric") == "good")
    assert of_layers.select("n_encoders", "n_candidates").rows() == [(8, 16), (8, 16)]
    by_metric = {name: group.drop("metric") for (name,), group in agreed.group_by(["metric"])}
    assert by_metric["good"].equals(by_metric["lower"])  # a direction is no agreement
    assert agreed.filter(pl.col("metric") == "needs_head")["warning"].str.contains("3 encoders|6 layers").all()

    kinds = pl.DataFrame(
        {
            "target": ["small", "large"] * 2,
            "aspect": ["all", "all", "classes", "classes"],
            "level": ["all targets"] * 2 + ["few", "many"],
        }
    )
    rows = tables.frame("metric_verdicts", verdicts(frame, kinds, set(NAMES[5:]), seed))
    levels = rows.select("aspect", "level").unique().sort("aspect", "level").rows()
    assert levels == [
        ("all", "all targets"), ("classes", "few"), ("classes", "many"), ("mode", "layers"), ("mode", "linear"),
        ("source_head", "encoders with one"), ("source_head", "encoders without"),
    ]  # fmt: skip
    assert rows.filter(aspect="all", metric="good")["n_comparisons"].to_list() == [4]
    assert rows.filter(aspect="classes", metric="good")["n_targets"].to_list() == [1, 1]
    assert "scores 5 of 8 encoders" in rows.filter(aspect="all", metric="needs_head")["warning"][0]
    fair = rows.filter(aspect="source_head", level="encoders with one")
    assert fair["n_encoders"].to_list() == [5, 5, 5]
    assert fair["warning"].null_count() == 3
    shuffled = verdicts(frame.sample(fraction=1, shuffle=True, seed=1), kinds, set(NAMES[5:]), seed)
    assert tables.frame("metric_verdicts", shuffled).equals(rows)


def test_no_pairs_no_verdicts() -> None:
    assert (
        verdicts(pairs().clear(), pl.DataFrame(schema=dict.fromkeys(("target", "aspect", "level"), pl.String)), set(), seed)
        == []
    )
    assert agreements(pairs().clear(), seed) == []
