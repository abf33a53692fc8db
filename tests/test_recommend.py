"""Recommendations say what the tables say, and admit what they do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from stages import recommend
from stages.probe import learning_curves
from stages.prune import smallest_fraction
from stages.questions import picks
from stages.rank.agreement import agreement as agreement_of
from stages.trust import Choice

HEADS = {"a": "pooled", "b": "pooled"}


def scores(**metric_by_encoder: float | None) -> pl.DataFrame:
    ordered = sorted(metric_by_encoder, key=lambda name: -(metric_by_encoder[name] or -1e9))
    rows = [
        {
            "target": "t",
            "encoder": name,
            "layer": "pooled",
            "metric": "logme",
            "score": metric_by_encoder[name],
            "rank": None if metric_by_encoder[name] is None else ordered.index(name) + 1,
            "warning": None,
        }
        for name in metric_by_encoder
    ]
    return pl.DataFrame(rows, schema_overrides={"score": pl.Float64, "rank": pl.Int64, "warning": pl.String})


FINETUNED = pl.DataFrame(
    {
        "target": ["t"] * 4,
        "encoder": ["a", "a", "b", "b"],
        "mode": ["full"] * 4,
        "seed": [0, 1, 0, 1],
        "accuracy": [0.8, 0.9, 0.9, 0.96],
    }
)


PROBES = pl.DataFrame(schema={"target": pl.String, "encoder": pl.String, "layer": pl.String, "accuracy": pl.Float64})
CHOSEN = {"t": Choice("logme", None, None)}


def agreement(low: float | None) -> pl.DataFrame:
    row = {
        "target": "t",
        "metric": "logme",
        "mode": "full",
        "weighted_kendall": 0.5,
        "ci_low": low,
        "ci_high": 0.9,
        "n_encoders": 6,
    }
    return pl.DataFrame([row], schema_overrides={"ci_low": pl.Float64})


def test_the_first_encoder_with_its_truth_and_margin() -> None:
    (row,) = recommend.encoders(scores(a=0.7, b=0.4), FINETUNED, PROBES, agreement(0.1), CHOSEN, HEADS)
    assert row["answer"] == "a, layer pooled"
    assert row["margin"] == pytest.approx(0.3)
    assert "full fine-tuning 0.850 (best 0.930, b)" in row["evidence"]
    assert "0.50 [0.10, 0.90]" in row["evidence"]
    assert row["warning"] is None


def test_doubt_is_told() -> None:
    (row,) = recommend.encoders(scores(a=0.7, b=0.4), FINETUNED, PROBES, agreement(-0.2), CHOSEN, HEADS)
    assert "may be chance" in row["warning"]


def test_a_metric_without_values_gives_no_answer_to_either_question() -> None:
    undefined = scores(a=None, b=None)
    (row,) = recommend.encoders(undefined, FINETUNED, PROBES, agreement(None), CHOSEN, HEADS)
    assert row["answer"] == "no answer"
    assert row["margin"] is None
    assert picks(undefined, {"t": "logme"}) == {}
    (row,) = recommend.heads(curve("logistic", {100: 0.4, 1000: 0.2}), CROSSING, {}, 300, "pooled")
    assert (row["target"], row["answer"]) == ("t", "no answer")
    assert "not defined" in row["evidence"]


def test_an_intermediate_layer_is_told_from_the_one_that_the_accuracy_is_of() -> None:
    table = scores(a=0.7, b=0.4).with_columns(layer=pl.lit("stages.1"))
    assert picks(table, {"t": "logme"}) == {"t": ("a", "stages.1")}
    (row,) = recommend.encoders(table, FINETUNED, PROBES, agreement(0.1), CHOSEN, HEADS)
    assert row["answer"] == "a, layer stages.1"
    assert row["warning"] == "accuracy and agreement are of layer pooled"
    (row,) = recommend.heads(curve("logistic", {100: 0.4, 1000: 0.2}), CROSSING, picks(table, {"t": "logme"}), 300, "pooled")
    assert "on a, layer pooled, at 300 labels" in row["evidence"]
    assert "the picked layer is stages.1" in row["warning"]


def test_the_accuracy_of_an_intermediate_layer_is_told_where_it_is_measured() -> None:
    table = scores(a=0.7, b=0.4).with_columns(layer=pl.lit("stages.1"))
    measured = pl.DataFrame(
        {
            "target": ["t"] * 3,
            "encoder": ["a", "a", "b"],
            "layer": ["stages.1", "stages.1", "pooled"],
            "accuracy": [0.6, 0.7, 0.8],
        }
    )
    (row,) = recommend.encoders(table, FINETUNED, measured, agreement(0.1), CHOSEN, HEADS)
    assert "a linear head on this layer 0.650 (best 0.800, b pooled)" in row["evidence"]
    assert row["warning"] is None


def test_the_reason_and_the_doubt_of_the_metric_are_told() -> None:
    chosen = {"t": Choice("logme", "logme agrees best", "logme is not shown to be better than chance")}
    (row,) = recommend.encoders(scores(a=0.7, b=0.4), FINETUNED, PROBES, agreement(0.1), chosen, HEADS)
    assert "logme agrees best" in row["evidence"]
    assert row["warning"] == "logme is not shown to be better than chance"


def curve(head: str, errors: dict[int, float], apart: float = 0.0) -> pl.DataFrame:
    """Two seeds whose errors lie `apart` above and below those given."""
    return pl.DataFrame(
        [
            {"target": "t", "encoder": "a", "head": head, "m": m, "seed": seed, "error": error + (apart if seed else -apart)}
            for m, error in errors.items()
            for seed in (0, 1)
        ]
    )


def test_error_between_sizes_is_linear_in_log_m() -> None:
    measured = curve("logistic", {100: 0.4, 1000: 0.2})
    middle = round(math.sqrt(100 * 1000))
    for labels, error in ((100, 0.4), (middle, 0.3), (5000, 0.2)):
        assert recommend.errors_at(measured, labels) == pytest.approx({0: error, 1: error}, abs=1e-3)


CROSSING = pl.DataFrame(
    {
        "target": ["t"],
        "encoder": ["a"],
        "m_star": [316.0],
        "ci_low": [200.0],
        "ci_high": [500.0],
        "regime": ["naive_bayes_first"],
    }
)


@pytest.mark.parametrize(
    ("labels", "answer", "outside"),
    [
        (100, "with 100 labels take naive Bayes, error 0.30; logistic regression overtakes at 200 to 500", False),
        (1000, "with 1,000 labels take logistic regression, error 0.20; "
               "logistic regression overtook naive Bayes at 200 to 500", False),
        (5000, "with 5,000 labels take logistic regression, error 0.20; "
               "logistic regression overtook naive Bayes at 200 to 500", True),
    ],
)  # fmt: skip
def test_the_head_depends_on_the_labels(labels: int, answer: str, outside: bool) -> None:
    curves = pl.concat([curve("logistic", {100: 0.4, 1000: 0.2}, 0.001), curve("naive_bayes", {100: 0.3, 1000: 0.3})])
    (row,) = recommend.heads(curves, CROSSING, {"t": ("a", "pooled")}, labels, "pooled")
    assert row["answer"] == answer
    assert row["margin"] == pytest.approx(0.1)
    assert "crossing at 316 labels [200, 500] of the resamples that cross" in row["evidence"]
    assert ("with 1,000 labels logistic regression error 0.200" in row["evidence"]) == (labels == 100)  # what more would buy
    assert (row["warning"] is not None) == outside


def test_when_logistic_regression_overtakes() -> None:
    base = {"m_star": 1234.0, "ci_low": 876.0, "ci_high": 1449.0, "regime": "naive_bayes_first"}
    assert recommend.overtaking(base, 300, 5000) == "logistic regression overtakes at 880 to 1,400"
    alone = {**base, "ci_low": None, "ci_high": None}
    assert recommend.overtaking(alone, 300, 5000) == "logistic regression overtakes at about 1,200"
    assert recommend.overtaking({**base, "ci_low": 1230.0, "ci_high": 1240.0}, 2000, 5000).endswith(
        "overtook naive Bayes at about 1,200"
    )
    never = {"m_star": None, "ci_low": None, "ci_high": None, "regime": "no_crossing_seen"}
    assert recommend.overtaking(never, 300, 5000) == "logistic regression is not ahead at all 5,000"
    assert recommend.overtaking({**never, "regime": "logistic_always"}, 300, 5000) == "naive Bayes is never ahead"


def test_one_head_alone_is_compared_with_nothing() -> None:
    none = CROSSING.with_columns(m_star=pl.lit(None, pl.Float64), regime=pl.lit("no_crossing_seen"))
    (row,) = recommend.heads(curve("logistic", {100: 0.4, 1000: 0.2}), none, {"t": ("a", "pooled")}, 1000, "pooled")
    assert row["answer"] == "with 1,000 labels take logistic regression, error 0.20"
    assert row["margin"] is None


def test_heads_are_compared_seed_by_seed() -> None:
    def warning(*parts: pl.DataFrame) -> str | None:
        (row,) = recommend.heads(pl.concat(parts), CROSSING, {"t": ("a", "pooled")}, 300, "pooled")
        return str(row["warning"]) if row["warning"] else None

    bayes = {100: 0.3, 1000: 0.3}
    # Both heads share the seeds' ups and downs, however large; only their difference counts.
    assert warning(curve("logistic", {100: 0.2, 1000: 0.2}, 0.1), curve("naive_bayes", bayes, 0.101)) is None
    gaps = [0.1 - 0.05, 0.1 + 0.05]
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    found = warning(curve("logistic", {100: 0.2, 1000: 0.2}), curve("naive_bayes", bayes, 0.05))
    assert found == f"naive Bayes may be as good: its error is {expected.low:+.3f} to {expected.high:+.3f} above over 2 seeds"
    assert "interval unknown" in str(warning(curve("logistic", {100: 0.2, 1000: 0.2}), curve("naive_bayes", bayes)))
    one = [curve(head, bayes).filter(pl.col("seed") == 0) for head in ("logistic", "naive_bayes")]
    assert "one seed" in str(warning(*one))


def outcome(method: str, fraction: float, seed: int, accuracy: float, steps: int) -> dict[str, object]:
    return {
        "source": "s",
        "target": "t",
        "method": method,
        "keep_fraction": fraction,
        "mode": "linear",
        "seed": seed,
        "n_classes": 1,
        "n_images": 1,
        "pretrain_steps": steps,
        "downstream_accuracy": accuracy,
        "full_source_accuracy": 0.9,
    }


def source_data(rows: list[dict[str, object]]) -> list[dict[str, Any]]:
    savings = smallest_fraction(pl.DataFrame(rows), 0.01, np.random.default_rng(0))
    return list(recommend.source_data(savings, 0.01))


def test_the_smallest_share_that_costs_little() -> None:
    rows = [outcome("full", 1.0, seed, 0.9, 100) for seed in (0, 1)]
    rows += [outcome("label_mapping", 0.2, seed, 0.8, 20) for seed in (0, 1)]
    rows += [outcome("label_mapping", 0.5, seed, accuracy, 50) for seed, accuracy in ((0, 0.9), (1, 0.898))]
    rows += [outcome("random", 0.5, seed, 0.7, 50) for seed in (0, 1)]
    (row,) = source_data(rows)
    assert row["target"] == "s for t, linear head"
    assert row["answer"] == "keep 50% of the source's groups by label_mapping"
    assert "50% of the pre-training steps saved" in row["evidence"]
    assert "(loss -0.012 to +0.014, 2 seeds); smallest share 50% when seeds are resampled" in row["evidence"]
    assert row["warning"] == "the interval does not rule out a loss above 0.01"
    assert row["margin"] == pytest.approx(0.009)


def test_each_mode_has_an_answer_and_resampled_seeds_may_ask_for_more() -> None:
    rows = [outcome("full", 1.0, seed, 0.9, 100) for seed in (0, 1)]
    rows += [outcome("label_mapping", 0.2, seed, accuracy, 20) for seed, accuracy in ((0, 0.91), (1, 0.87))]
    rows += [outcome("label_mapping", 0.5, seed, 0.9, 50) for seed in (0, 1)]
    tuned = [{**row, "mode": "full", "downstream_accuracy": 0.9} for row in rows]
    full, linear = source_data(rows + tuned)
    assert (full["target"], linear["target"]) == ("s for t, full fine-tuning", "s for t, linear head")
    assert full["answer"] == linear["answer"] == "keep 20% of the source's groups by label_mapping"
    assert full["warning"] is None
    assert "smallest share 20% to 50% when seeds are resampled" in linear["evidence"]
    assert "resampled seeds ask for up to 50%" in linear["warning"]


def test_random_as_good_is_told() -> None:
    rows = [
        outcome(method, fraction, seed, 0.9, 100)
        for method, fraction in (("full", 1.0), ("a_method", 0.5), ("random", 0.5))
        for seed in (0, 1)
    ]
    (row,) = source_data(rows)
    assert row["answer"] == "keep 50% of the source's groups by a_method"
    assert "random selection is as good" in row["warning"]


def test_the_reversed_order_is_never_the_answer() -> None:
    full = [outcome("full", 1.0, seed, 0.9, 100) for seed in (0, 1)]
    rows = [*full, *(outcome("reversed", 0.2, seed, 0.95, 20) for seed in (0, 1))]
    (row,) = source_data(rows)
    assert row["answer"] == "keep everything"
    (row,) = source_data([*rows, *(outcome("a_method", 0.2, seed, 0.9, 20) for seed in (0, 1))])
    assert row["answer"] == "keep 20% of the source's groups by a_method"
    assert "reversed selection is as good" in row["warning"]


def test_nothing_can_go() -> None:
    rows = [
        outcome(method, fraction, 0, accuracy, 10) for method, fraction, accuracy in (("full", 1.0, 0.9), ("random", 0.5, 0.5))
    ]
    (row,) = source_data(rows)
    assert row["answer"] == "keep everything"


def test_what_the_answers_rest_on_is_callable_without_a_seed() -> None:
    assert agreement_of([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]) == agreement_of([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], seed=0)
    stream = np.random.default_rng(0)
    x, y = stream.normal(size=(40, 2)), np.arange(40) % 2
    drawn = learning_curves(x, y, x, y, [10, 20], 2, ["naive_bayes"])
    assert drawn.equals(learning_curves(x, y, x, y, [10, 20], 2, ["naive_bayes"], run_seed=0))


def test_sources_and_examples() -> None:
    ranked = pl.DataFrame(
        {
            "task": ["k"] * 2,
            "target": ["pt"] * 2,
            "rank": [1, 2],
            "source": ["es", "en"],
            "predicted": [0.6, 0.5],
            "interval_low": [0.5, None],
            "interval_high": [0.7, None],
            "measured": [0.55, 0.58],
            "regret": [0.03, 0.0],
            "conformal_set": [True, True],
        }
    )
    kinds = ["target_out_of_range", "broken_source", "target_out_of_range"]
    warnings = pl.DataFrame({"task": ["k"] * 3, "kind": kinds, "subject": ["pt", "pt", "ru"], "detail": ["far", "bad", "off"]})
    (row,) = recommend.source_languages(ranked, warnings)
    assert (row["target"], row["answer"]) == ("k/pt", "es")
    assert row["margin"] == pytest.approx(0.1)
    assert "predicted 0.600 [0.500, 0.700], measured 0.550" in row["evidence"]
    assert row["warning"] == "the 90% set holds 2 of 2 sources; target out of range: far"
    curves = pl.DataFrame(
        {
            "task": ["k"] * 2,
            "target": ["pt", "ru"],
            "offset": [0.5, 0.5],
            "slope_per_decade": [0.1, 0.0],
            "slope_low": [0.05, -0.1],
            "slope_high": [0.2, 0.1],
            "r2_log": [0.9, 0.0],
            "n_for_goal": [999, None],
            "warning": [None, "the slope may be 0"],
        }
    )
    first, second = recommend.target_examples(curves, 0.8)
    assert first["answer"] == "999 for a score of 0.8"
    assert (second["answer"], second["warning"]) == ("no number", "the slope may be 0")


def test_sources_together() -> None:
    rows = [
        {"task": "k", "rule": rule, "budget": budget, "sources": sources, "cost": budget, "n_targets": 5, "predicted": 0.5,
         "measured": measured, "covered": 0.8}
        for rule, budget, sources, measured in (
            ("exact", 1.0, "en", 0.4), ("exact", 2.0, "en, ru", 0.5), ("greedy", 2.0, "en, ru", 0.5),
            ("english", 2.0, "de, en", 0.45), ("random", 2.0, None, 0.52), ("cover", 4.0, "en, es, hi, ru", 0.6),
        )
    ]  # fmt: skip
    (row,) = recommend.source_sets(pl.DataFrame(rows))
    assert (row["target"], row["answer"]) == ("k", "en, ru")
    assert "english 0.450; random 0.520; all targets take en, es, hi, ru at cost 4" in row["evidence"]
    assert row["margin"] == pytest.approx(-0.02)
    assert row["warning"] == "random measured better"
    (row,) = recommend.source_sets(pl.DataFrame(rows[-1:]))
    assert (row["answer"], row["evidence"]) == ("no answer", "all targets take en, es, hi, ru at cost 4")
