"""Result tables: atomic writing with checks, reading. A table is named after the question it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from stages.artifacts import atomic
from stages.artifacts.schemas import SCHEMAS, Column, Schema
from stages.errors import InputProblem, nearest

__all__ = ["PARTS", "RESULTS", "SCHEMAS", "Column", "Schema", "load", "load_parts", "result_path", "write", "write_part"]

RESULTS = Path("data/results")

PARTS = Path("data/parts")


def _checked(frame: pl.DataFrame, schema: Schema, where: str, leave_out: Sequence[str] = ()) -> pl.DataFrame:
    """Return `frame` with the schema's columns, types and order; raise ValueError where it cannot be."""
    columns = {name: column for name, column in schema.columns.items() if name not in leave_out}
    keys = [name for name in schema.keys if name not in leave_out]
    missing = [name for name in columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in columns]
    if missing or (extra and not schema.open_columns):
        raise ValueError(f"{where}: columns missing {missing}, not in the schema {extra}")
    frame = frame.select(
        *[pl.col(name).cast(column.dtype) for name, column in columns.items()],
        *[pl.col(name).cast(pl.Float64) for name in sorted(extra)],
    )
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    if floats:
        frame = frame.with_columns(pl.col(name).fill_nan(None) for name in floats)
        endless = [name for name in floats if frame[name].is_infinite().any()]
        if endless:
            raise ValueError(f"{where}: infinite values in {endless}; missing is null, and nothing is infinite")
    nulls = [name for name, column in columns.items() if not column.nullable and frame[name].null_count()]
    if nulls:
        raise ValueError(f"{where}: null in {nulls}")
    frame = frame.sort(keys)
    if frame.select(keys).is_duplicated().any():
        raise ValueError(f"{where}: keys {keys} are not unique")
    return frame


def _write(frame: pl.DataFrame, path: Path, name: str, version: int) -> None:
    with atomic.new_file(path) as scratch:
        frame.write_parquet(
            scratch, compression="zstd", statistics=True, metadata={"table": name, "schema_version": str(version)}
        )


def frame(name: str, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return rows as a frame with the columns and types of a table's schema; what a row leaves out is null."""
    return pl.DataFrame(rows, schema={column: kind.dtype for column, kind in SCHEMAS[name].columns.items()})


def result_path(name: str) -> Path:
    """Return where a result table lives."""
    return RESULTS / f"{name}.parquet"


def write(name: str, frame: pl.DataFrame) -> None:
    """Check a table against its schema, sort it by its keys and write it atomically to data/results."""
    schema = SCHEMAS[name]
    _write(_checked(frame, schema, name), result_path(name), name, schema.version)


def write_part(name: str, item: str, frame: pl.DataFrame, *, leave_out: Sequence[str] = ()) -> None:
    """Write one item's rows of a table to data/parts; `leave_out` names columns that only the whole table can have."""
    schema = SCHEMAS[name]
    _write(_checked(frame, schema, f"{name} of {item}", leave_out), PARTS / name / f"{item}.parquet", name, schema.version)


def load_parts(name: str, items: Sequence[str]) -> pl.DataFrame:
    """Read and concatenate the parts of the named items, and of no others."""
    frames = [_read(PARTS / name / f"{item}.parquet", name) for item in items]
    return pl.concat(frames)


def load(name: str) -> pl.DataFrame:
    """Read one result table, for instance `tables.load("agreement")`.

    Raises:
        InputProblem: there is no such table, it has not been made yet, or it is of another schema version.
    """
    if name not in SCHEMAS:
        raise InputProblem(f"there is no table {name!r}; {nearest(name, SCHEMAS)}")
    return _read(result_path(name), name)


def _read(path: Path, name: str) -> pl.DataFrame:
    schema = SCHEMAS[name]
    if not path.is_file():
        raise InputProblem("has not been made yet", where=str(path), next_step=f"dvc repro {schema.made_by}")
    try:
        version = pl.read_parquet_metadata(path).get("schema_version")
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputProblem(f"is damaged ({error})", where=str(path), next_step=f"dvc repro --force {schema.made_by}") from None
    if version != str(schema.version):
        raise InputProblem(
            f"has schema version {version}, this code reads {schema.version}",
            where=str(path),
            next_step=f"dvc repro {schema.made_by}",
        )
    return frame
