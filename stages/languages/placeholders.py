"""Numbers that stand for "unknown" in published tables of distances: found, made null, counted."""

from __future__ import annotations

import polars as pl

LEAST_PARTNERS = 3  # a constant over fewer pairs proves nothing
KNOWN_CONSTANT = ("genetic", "family")  # a language without relatives is at distance 1 from all, and rightly


def without_placeholders(table: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Return the table with placeholders made null, and a note with a count for each column that had any.

    A placeholder is, in a column that measures a distance (its name says so): a negative number; and 0 or 1 where a language
    has that same number to all its partners, three or more, unless the column knows no other numbers. In any column it is the
    one number 0 or 1 (or -1) that all rows hold: such a column is left out.
    """
    notes = []
    for column in columns:
        values = table.get_column(column).cast(pl.Float64)
        present = values.drop_nulls()
        if present.n_unique() == 1 and table.height > 1 and present[0] in (-1.0, 0.0, 1.0):
            notes.append(f"{column}: {present[0]:g} in all {len(present)} rows tells nothing, left out")
            table = table.drop(column)
            continue
        if "dist" not in column.casefold():
            continue
        negative = (values < 0).fill_null(value=False)
        constant = pl.Series([False] * table.height)
        if not any(word in column.casefold() for word in KNOWN_CONSTANT):
            constant = _constant_languages(table, column, values)
        found = negative | constant
        if found.any():
            of_languages = f", {_named(table, found)}" if constant.any() else ""
            notes.append(f"{column}: {found.sum()} placeholders made null{of_languages}")
        table = table.with_columns(pl.select(pl.when(~found).then(values).alias(column)).to_series())
    return table, notes


def _constant_languages(table: pl.DataFrame, column: str, values: pl.Series) -> pl.Series:
    """Return which rows hold the 0 or 1 that one of their languages has to all its partners."""
    pairs = table.select("source", "target", value=values).filter(
        pl.col("value").is_not_null() & (pl.col("source") != pl.col("target"))
    )
    if pairs["value"].is_in([0.0, 1.0]).all():
        return pl.Series([False] * table.height)  # a column of yes and no
    found = pl.Series([False] * table.height)
    for side, other in (("source", "target"), ("target", "source")):
        constant = (
            pairs.group_by(side)
            .agg(pl.col("value").n_unique().alias("n"), pl.col("value").first(), pl.col(other).n_unique().alias("partners"))
            .filter((pl.col("n") == 1) & pl.col("value").is_in([0.0, 1.0]) & (pl.col("partners") >= LEAST_PARTNERS))
        )
        found |= table[side].is_in(constant[side].to_list()) & values.is_in([0.0, 1.0]).fill_null(value=False)
    return found & (table["source"] != table["target"])


def _named(table: pl.DataFrame, found: pl.Series) -> str:
    """Name the languages that most of the placeholders are of."""
    rows = table.filter(found)
    counts = pl.concat([rows["source"], rows["target"]]).value_counts().sort("count", "source", descending=[True, False])
    return "of " + ", ".join(counts["source"].head(3).to_list())
