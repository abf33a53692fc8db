"""The questions that the recommendations answer, in the order in which a person asks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

ENCODER = "which encoder and layer"
HEAD = "which classifier head"
SOURCE_DATA = "how much source data can go"
SOURCE_LANGUAGE = "which source language"
SOURCE_SET = "which source languages together"
TARGET_EXAMPLES = "how many target examples"
QUESTIONS = (ENCODER, HEAD, SOURCE_DATA, SOURCE_LANGUAGE, SOURCE_SET, TARGET_EXAMPLES)

MODES = {"linear": "linear head", "full": "full fine-tuning", "given": "accuracy as given"}  # of adapting an encoder
CONTROLS = ("random", "random_images", "reversed")  # what a pruning method has to beat


def picks(scores: pl.DataFrame, metrics: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return target -> (encoder, layer) that its metric ranks first; targets where it is not defined are left out.

    Args:
        scores: rows of the table `transferability`.
        metrics: target -> the metric to rank by.
    """
    chosen = pl.DataFrame(
        {"target": list(metrics), "metric": list(metrics.values())}, schema=dict.fromkeys(("target", "metric"), pl.String)
    )
    first = scores.filter(pl.col("rank") == 1).join(chosen, on=["target", "metric"], how="semi").sort("target")
    return {target: (encoder, layer) for target, encoder, layer in first.select("target", "encoder", "layer").iter_rows()}


def by_question(recommendations: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each question that has answers, with its rows of the table `recommendations`."""
    for question in QUESTIONS:
        rows = recommendations.filter(pl.col("question") == question)
        if len(rows):
            yield question, rows
