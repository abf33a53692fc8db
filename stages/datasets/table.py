"""Kind `table`: ids, labels and splits without images, for features computed elsewhere: of texts, of sounds, of anything."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.datasets.contract import SPLIT_NAMES, DatasetKind, Labels
from stages.errors import InputProblem, nearest
from stages.params import Section

SPLIT = "split"


class Options(Section):
    """Where the table is and what its columns are called."""

    path: Path  # one .parquet or .csv; columns that are not named here are not read
    id_column: str | None = "id"  # text or integer; null: the id is the row's number
    label_column: str = "label"  # text or integer
    split_column: str | None = None  # by default `split` where there is such a column, else the splits are made here
    class_names: list[str] | None = None  # for integer labels: their names, in their order


def row_numbers(total: int) -> pl.Series:
    """Return the ids of rows that have none of their own: 00000000, 00000001, ..."""
    return pl.int_range(total, eager=True).cast(pl.String).str.zfill(8)


def scan(path: Path) -> pl.LazyFrame:
    """Open a .parquet or .csv without reading its rows; raises InputProblem where that is not possible."""
    if not path.is_file():
        raise InputProblem("does not exist", where=str(path), next_step="check the path: a .parquet or .csv file")
    if path.suffix not in (".parquet", ".csv"):
        raise InputProblem("is no .parquet and no .csv", where=str(path))
    try:
        table = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, infer_schema=False)
        table.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputProblem(f"cannot be read as {path.suffix[1:]} ({error})", where=str(path)) from None
    return table


def read(options: Options) -> Labels:
    """Open the table; only the columns of ids, labels and splits are read.

    A missing label, and an integer label outside the class names, is no label.

    Raises:
        InputProblem: nothing there, a damaged table, a column that is absent or of another type, an id that is missing
            or there twice, or a split of another name; with its row, counted from 0.
    """
    where = str(options.path)
    table = scan(options.path)
    schema = table.collect_schema()
    split_column = options.split_column or (SPLIT if SPLIT in schema else None)
    columns = {"id_column": options.id_column, "label_column": options.label_column, "split_column": split_column}
    for key, column in columns.items():
        if column is not None and column not in schema:
            hint = ", or `id_column: null` to number the rows" if key == "id_column" else ""
            raise InputProblem(f"has no column {column!r} for `{key}`; {nearest(column, schema.names())}{hint}", where=where)
        if column is not None and not (schema[column] in (pl.String, pl.Categorical, pl.Enum) or schema[column].is_integer()):
            raise InputProblem(f"column {column!r} is {schema[column]}; integers or text are needed", where=where)
    try:
        wanted = [column for column in columns.values() if column is not None]
        found = table.select(pl.col(name).cast(pl.String) for name in dict.fromkeys(wanted)).collect()
    except pl.exceptions.PolarsError as error:
        raise InputProblem(f"cannot be read as {options.path.suffix[1:]} ({error})", where=where) from None
    ids = row_numbers(len(found)) if options.id_column is None else found[options.id_column]
    check_ids(ids, where)
    labels = _named(found[options.label_column], options.class_names)
    splits = pl.repeat(None, len(found), dtype=pl.String, eager=True) if split_column is None else found[split_column]
    known = splits.str.to_lowercase().replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)
    wrong = (known.is_null() & splits.is_not_null()).arg_true()
    if len(wrong):
        raise InputProblem(
            f"column {split_column!r} says {splits[wrong[0]]!r} in row {wrong[0]}",
            where=where,
            next_step="use train, val or test in every row",
        )
    return Labels(pl.DataFrame({"id": ids, "label": labels, "split": known}), options.class_names)


def check_ids(ids: pl.Series, where: str) -> None:
    """Raise InputProblem, naming rows counted from 0, where an id is missing or there twice."""
    absent = ids.is_null().arg_true()
    if len(absent):
        raise InputProblem(f"{len(absent)} rows have no id, the first is row {absent[0]}", where=where)
    twice = ids.is_duplicated().arg_true()
    if len(twice):
        first = ids[twice[0]]
        rows = (ids == first).arg_true()
        raise InputProblem(
            f"{len(twice)} rows share their id with another; {first!r} is in rows {rows[0]} and {rows[1]}", where=where
        )


def _named(labels: pl.Series, names: list[str] | None) -> pl.Series:
    if names is None:
        return labels.set(labels == "-1", None)
    numbers = {str(number): name for number, name in enumerate(names)} | {name: name for name in names}
    return labels.replace_strict(numbers, default=None, return_dtype=pl.String)


KIND = DatasetKind(Options, read, images=False)
