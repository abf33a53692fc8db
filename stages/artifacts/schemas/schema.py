"""What a result table's schema is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

Kind = type[pl.DataType] | pl.DataType


@dataclass(frozen=True)
class Column:
    """One column: its polars type, its meaning, whether it may be null (null means: not computed), and its bounds."""

    dtype: Kind
    meaning: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Schema:
    """One table: the question it answers, its key columns (sorted by, unique), its other columns, its version.

    A table with `open_columns` may carry further float columns of its own (language features). A table that
    `may_be_empty` has no rows where params.yaml asks for nothing that would fill it, for instance no pruning pair.
    """

    question: str
    keys: Mapping[str, Column]
    values: Mapping[str, Column]
    made_by: str
    version: int = 1
    open_columns: bool = False
    may_be_empty: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        """Return key columns and value columns in order."""
        return {**self.keys, **self.values}


def text(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.String, meaning, nullable)


def count(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Int64, meaning, nullable, low=0)


def real(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Float64, meaning, nullable)


def share(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Float64, meaning + ", 0 to 1", nullable, low=0, high=1)


def correlation(meaning: str) -> Column:
    return Column(pl.Float64, meaning + ", -1 to 1", nullable=True, low=-1, high=1)


WARNING = text("a degenerate case the reader should know of", nullable=True)

TARGET = text("target dataset")

ENCODER = text("encoder, as named in params.yaml")

SEED = count("repetition, 0 .. seeds-1")
