"""The questions that the recommendations answer, in the order in which a person asks them."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

ENCODER = "which encoder and layer"
HEAD = "which classifier head"
SOURCE_DATA = "how much source data can go"
SOURCE_LANGUAGE = "which source language"
TARGET_EXAMPLES = "how many target examples"
QUESTIONS = (ENCODER, HEAD, SOURCE_DATA, SOURCE_LANGUAGE, TARGET_EXAMPLES)


def by_question(recommendations: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each question that has answers, with its rows of the table `recommendations`."""
    for question in QUESTIONS:
        rows = recommendations.filter(pl.col("question") == question)
        if len(rows):
            yield question, rows
