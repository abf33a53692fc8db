"""One section of the report: a sentence with its number, and the figures that show it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from stages.params import Params
from stages.report.figure import Figure
from stages.trust import choices

Results = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Table:
    """Rows behind a figure, folded away until asked for; a click on a column's head sorts them."""

    key: str
    title: str
    rows: pl.DataFrame


@dataclass(frozen=True)
class Section:
    """One answer."""

    key: str
    heading: str
    sentence: str
    charts: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()


def ranked_by(settings: Params, results: Results) -> dict[str, str]:
    """Return target -> the metric that its encoders are ranked by."""
    wanted, metrics = settings.recommend.metric, settings.rank.metrics
    found = choices(wanted, metrics, results["transferability"], results["metric_verdicts"])
    return {target: choice.metric for target, choice in found.items()}


def mean(values: pl.Series, digits: int = 3) -> str:
    """Return the mean of what is present, rounded, in words where nothing is."""
    present = values.drop_nulls().to_list()
    return f"{sum(present) / len(present):.{digits}f}" if present else "(not defined)"
