"""One section of the report: a sentence with its number, and the figures that show it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from stages.report.figure import Figure

Results = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Section:
    """One answer."""

    key: str
    heading: str
    sentence: str
    charts: tuple[Figure, ...]


def mean(values: pl.Series, digits: int = 3) -> str:
    """Return the mean of what is present, rounded, in words where nothing is."""
    present = values.drop_nulls().to_list()
    return f"{sum(present) / len(present):.{digits}f}" if present else "(not defined)"
