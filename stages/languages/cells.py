"""Cells of a user's table: read as text or numbers, refused with their row and column."""

from __future__ import annotations

import json
from typing import NoReturn

import polars as pl

from stages.errors import InputProblem

ROW = "__row"  # counted from 1, without the header


class Cells:
    """Reads the columns of the table named `where`; `notes` tell what was changed."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.notes: list[str] = []

    def refuse(self, what: str, next_step: str, *, row: int | None = None, column: str | None = None) -> NoReturn:
        """Raise InputProblem at a row and a column."""
        place = [self.where, *([f"row {row}"] if row is not None else []), *([f"column {column}"] if column else [])]
        raise InputProblem(what, where=", ".join(place), next_step=f"{next_step}, then `dvc repro transfer`")

    def numbers(self, table: pl.DataFrame, column: str) -> pl.Series:
        """Return a column as floats, null where it is empty, NaN or infinite; text that is no number is refused."""
        values = table.get_column(column)
        if values.dtype == pl.String:
            values = values.str.strip_chars().replace("", None)
        if not (values.dtype in (pl.String, pl.Boolean, pl.Null) or values.dtype.is_numeric()):
            self.refuse(f"holds {values.dtype}, not numbers", "correct it", column=column)
        found = values.cast(pl.Float64, strict=False)
        lost = (found.is_null() & values.is_not_null()).arg_true()
        if len(lost):
            self.refuse(f"{values[lost[0]]!r} is no number", "correct it", row=table[ROW][lost[0]], column=column)
        return found.to_frame().select(pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column)).to_series()

    def counts(self, table: pl.DataFrame, column: str) -> pl.Series:
        """Return a column of whole numbers, none negative."""
        found = self.numbers(table, column)
        wrong = ((found < 0) | (found != found.floor())).fill_null(value=False).arg_true()
        if len(wrong):
            self.refuse(
                f"{found[wrong[0]]:g} is no whole number from 0 up", "correct it", row=table[ROW][wrong[0]], column=column
            )
        return found.cast(pl.Int64)

    def texts(self, table: pl.DataFrame, column: str) -> pl.Series:
        """Return a column of text of which no cell is empty; mixes of nested columns (structs, Arrow maps) become JSON."""
        values = table.get_column(column)
        if values.dtype.is_nested():
            found = pl.Series(column, [_as_json(value) for value in values], dtype=pl.String)
        else:
            found = values.cast(pl.String).str.strip_chars()
        empty = (found.is_null() | (found == "")).fill_null(value=True).arg_true()
        if len(empty):
            self.refuse("is empty", "fill it", row=table[ROW][empty[0]], column=column)
        return found


def _as_json(value: object) -> str | None:
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, list):  # an Arrow map
        value = {str(pair["key"]): pair["value"] for pair in value}
    if isinstance(value, dict):
        return json.dumps({name: size for name, size in value.items() if size is not None}, sort_keys=True)
    return None if value is None else str(value)
