"""Kinds of target as measured, and which metric is gone by on each."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from stages.trust import choices, kinds

METRICS = ["logme", "tmi", "leep"]


def scores(**facts: tuple[int, int, int]) -> pl.DataFrame:
    """Candidates of targets with (images, classes, median dimensions); leep scores one of the two encoders."""
    rows = [
        {"target": target, "encoder": encoder, "layer": "pooled", "metric": metric, "n": n, "d": d + shift,
         "n_classes": classes, "score": None if (metric, encoder) == ("leep", "b") else 0.5}
        for target, (n, classes, d) in facts.items()
        for encoder, shift in (("a", -1), ("b", 1))
        for metric in METRICS
    ]  # fmt: skip
    return pl.DataFrame(rows)


def verdict(
    metric: str, tau: float, aspect: str = "all", level: str = "all targets", n: int = 4, **more: Any
) -> dict[str, Any]:
    word = "better than chance" if tau > 0.5 else "may be chance"
    row = {"aspect": aspect, "level": level, "metric": metric, "n_targets": n, "place": round(100 - 100 * tau)}
    return {**row, "weighted_kendall": tau, "ci_low": tau - 0.2, "ci_high": tau + 0.1, "verdict": word, **more}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {"weighted_kendall": pl.Float64, "ci_low": pl.Float64, "n_targets": pl.Int64, "place": pl.Int64}
    names = ["aspect", "level", "metric", "n_targets", "place", "weighted_kendall", "ci_low", "ci_high", "verdict"]
    return pl.DataFrame(list(rows), schema={name: schema.get(name, pl.String) for name in names} | {"ci_high": pl.Float64})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((100, 10, 100), ("2 to 10", "20 or fewer", "1 or less")),
        ((1010, 10, 100), ("2 to 10", "over 100", "over 10")),
        ((250, 11, 100), ("11 to 100", "21 to 100", "1 to 10")),
        ((1000, 101, 100), ("over 100", "20 or fewer", "1 to 10")),
    ],
)
def test_kinds_are_measured(facts: tuple[int, int, int], expected: tuple[str, ...]) -> None:
    found = dict(kinds(scores(t=facts)).select("aspect", "level").iter_rows())
    assert found == dict(zip(("all", "classes", "images_per_class", "n_over_d"), ("all targets", *expected), strict=True))


def test_a_named_metric_is_taken_and_its_doubt_told() -> None:
    known = scores(t=(100, 10, 100))
    assert choices("tmi", METRICS, known, table(verdict("tmi", 0.9)))["t"].warning is None
    doubted = choices("tmi", METRICS, known, table(verdict("tmi", 0.1)))["t"]
    assert (doubted.metric, doubted.warning) == (
        "tmi", "tmi is not shown to be better than chance over all targets (may be chance)",
    )  # fmt: skip
    assert choices("tmi", METRICS, known, table())["t"].warning is None


def test_auto_takes_the_trusted_metric_that_scores_every_candidate() -> None:
    judged = table(verdict("leep", 0.99), verdict("logme", 0.7), verdict("tmi", 0.8))
    choice = choices("auto", METRICS, scores(t=(100, 10, 100)), judged)["t"]
    assert (choice.metric, choice.warning) == ("tmi", None)
    assert choice.reason == "tmi trusted, and agrees best with fine-tuning over all targets, 0.80 [0.60, 0.90]"
    lucky = verdict("tmi", 0.8, verdict="may be chance")
    assert choices("auto", METRICS, scores(t=(100, 10, 100)), table(verdict("logme", 0.7), lucky))["t"].metric == "logme"


def test_auto_says_when_nothing_can_be_trusted() -> None:
    choice = choices("auto", METRICS, scores(t=(100, 10, 100)), table(verdict("logme", 0.2), verdict("tmi", 0.3)))["t"]
    assert choice.metric == "tmi"
    assert choice.warning is not None
    assert "not shown to be better than chance" in choice.warning
    choice = choices("auto", METRICS, scores(t=(100, 10, 100)), table())["t"]
    assert (choice.metric, choice.reason) == ("logme", None)
    assert choice.warning == "no accuracies say which metric to trust; the first in params.yaml is taken"


def test_the_narrowest_kind_with_three_targets_decides() -> None:
    judged = [verdict("logme", 0.9), verdict("tmi", 0.6)]
    few = [verdict("logme", 0.6, "n_over_d", "1 or less", n=3), verdict("tmi", 0.8, "n_over_d", "1 or less", n=3)]
    tiny = [verdict("logme", 0.9, "classes", "2 to 10", n=2), verdict("tmi", 0.1, "classes", "2 to 10", n=2)]
    found = choices("auto", METRICS, scores(small=(100, 10, 100), big=(5000, 10, 100)), table(*judged, *few, *tiny))
    assert found["small"].metric == "tmi"
    assert "over targets with n over d 1 or less" in str(found["small"].reason)
    assert found["big"].metric == "logme"
    same = [verdict("logme", 0.1, "classes", "2 to 10"), verdict("tmi", 0.8, "classes", "2 to 10")]
    assert (
        choices("auto", METRICS, scores(t=(100, 10, 100)), table(*judged, *same))["t"].metric == "logme"
    )  # all targets are alike
