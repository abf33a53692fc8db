"""Tables that the user brings: fine-tuned accuracies, and scores of a published zoo; CSV or parquet, every cell checked."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import polars as pl

from stages.artifacts.raw import raw_file
from stages.errors import InputProblem, nearest

FOLDER = Path("data/raw/accuracies")  # what DVC watches
SUFFIXES = (".csv", ".parquet")
ACCURACY_COLUMNS = ("encoder", "dataset", "accuracy")
LONG_COLUMNS = ("encoder", "dataset", "metric", "score")


def accuracy_file(path: Path, where: str) -> Path:
    """Return `path`, which params.yaml names at `where`; raises InputProblem unless it is a file below data/raw/accuracies."""
    return raw_file(path, FOLDER, where, kind="accuracies", key="accuracies")


def read_accuracies(path: Path, encoders: Collection[str], datasets: Collection[str], known_from: str) -> pl.DataFrame:
    """Read fine-tuned accuracies: columns encoder, dataset, accuracy (0 to 1); others are left alone.

    Args:
        path: a .csv or .parquet file.
        encoders: names that may occur.
        datasets: names that may occur.
        known_from: where these names come from, for the messages.

    Raises:
        InputProblem: naming the row and the column: a column or value is missing, an accuracy is no number from 0 to 1,
            a name is unknown, a pair occurs twice, or there are no rows.
    """
    frame = _named_rows(path, ACCURACY_COLUMNS)
    for column, known in (("encoder", encoders), ("dataset", datasets)):
        for row, name in enumerate(frame[column].to_list()):
            if name not in known:
                what = f"there is no {column} {name!r} in {known_from}; {nearest(name, known)}"
                raise InputProblem(what, where=_cell(path, row, column), next_step="correct the name or take the row out")
    values = [_accuracy(text, _cell(path, row, "accuracy")) for row, text in enumerate(frame["accuracy"].to_list())]
    _refuse_repeats(frame, ("encoder", "dataset"), path)
    return frame.select("encoder", "dataset", accuracy=pl.Series(values, dtype=pl.Float64)).sort("encoder", "dataset")


def read_scores(path: Path) -> pl.DataFrame:
    """Read scores of a zoo, and return encoder, dataset, metric, score (null where empty), higher_is_better.

    The file has one row a pair and one column a metric beside encoder and dataset; or columns encoder, dataset, metric,
    score and, if some metrics are better when lower, higher_is_better (true or false).

    Raises:
        InputProblem: naming the row and the column that is wrong.
    """
    frame = _named_rows(path, ("encoder", "dataset"))
    if {"metric", "score"} <= set(frame.columns):
        long = frame.with_columns(row=pl.int_range(pl.len()), column=pl.lit("score"))
    else:
        metrics = [name for name in frame.columns if name not in ("encoder", "dataset", "higher_is_better")]
        if not metrics:
            what = "has no scores: neither a column a metric, nor the columns metric and score"
            raise InputProblem(what, where=str(path), next_step="add them")
        long = frame.with_columns(row=pl.int_range(pl.len())).unpivot(
            metrics, index=["encoder", "dataset", "row"], variable_name="metric", value_name="score"
        )
        long = long.with_columns(column=pl.col("metric"))
    _refuse_empty(long, "metric", path)
    places = long.select("row", "column").iter_rows()
    scores = [_score(text, _cell(path, *place)) for text, place in zip(long["score"].to_list(), places, strict=True)]
    higher = pl.lit(True)
    if "higher_is_better" in long.columns:
        words = long["higher_is_better"].fill_null("true").str.to_lowercase()
        for row, word in enumerate(words.to_list()):
            if word not in ("true", "false"):
                where = _cell(path, row, "higher_is_better")
                raise InputProblem(f"{word!r} is neither true nor false", where=where, next_step="write one of them")
        higher = pl.lit(words == "true")
    long = long.with_columns(score=pl.Series(scores, dtype=pl.Float64), higher_is_better=higher)
    _refuse_repeats(long, ("encoder", "dataset", "metric"), path)
    mixed = long.group_by("metric").agg(pl.col("higher_is_better").n_unique()).filter(pl.col("higher_is_better") > 1)
    if len(mixed):
        what = f"{mixed.sort('metric')['metric'][0]!r} is better when higher in some rows and when lower in others"
        raise InputProblem(what, where=f"{path}: column higher_is_better", next_step="give each metric one direction")
    return long.select("encoder", "dataset", "metric", "score", "higher_is_better").sort("dataset", "metric", "encoder")


def _named_rows(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Read a table as text, cells stripped, empty ones null; check that it has rows, columns, and names in the first two."""
    if path.suffix not in SUFFIXES:
        raise InputProblem(f"is none of {', '.join(SUFFIXES)}", where=str(path), next_step="save it as one of these")
    if not path.is_file():
        raise InputProblem("does not exist", where=str(path), next_step="check the path")
    try:
        frame = pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path)
    except pl.exceptions.NoDataError:
        raise InputProblem("is empty", where=str(path), next_step=f"columns {', '.join(columns)}, one row a pair") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputProblem(f"cannot be read ({error})", where=str(path), next_step="save it again") from None
    frame = frame.select(pl.col(name).cast(pl.String).str.strip_chars().alias(name.strip()) for name in frame.columns)
    frame = frame.select(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in frame.columns)
    for column in columns:
        if column not in frame.columns:
            hint = " (columns are told apart by commas)" if len(frame.columns) == 1 else ""
            what = f"has no column {column!r}{hint}; its columns: {', '.join(frame.columns)}"
            raise InputProblem(what, where=str(path), next_step=f"columns {', '.join(columns)}, one row a pair")
    if frame.is_empty():
        raise InputProblem("has no rows", where=str(path), next_step=f"columns {', '.join(columns)}, one row a pair")
    for column in columns[:2]:
        _refuse_empty(frame, column, path)
    return frame


def _cell(path: Path, row: int, column: str) -> str:
    place = f"line {row + 2}" if path.suffix == ".csv" else f"row {row + 1}"  # a CSV's first line is its header
    return f"{path}: {place}, column {column}"


def _refuse_empty(frame: pl.DataFrame, column: str, path: Path) -> None:
    empty = frame[column].is_null().arg_true()
    if len(empty):
        raise InputProblem("is empty", where=_cell(path, int(empty[0]), column), next_step="fill it in or take the row out")


def _refuse_repeats(frame: pl.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    first: dict[tuple[str, ...], int] = {}
    for row, names in enumerate(frame.select(columns).iter_rows()):
        if names in first:
            shown = ", ".join(f"{column} {name}" for column, name in zip(columns, names, strict=True))
            earlier = _cell(path, first[names], columns[0]).rpartition(":")[2].partition(",")[0].strip()
            what = f"{shown} is in {earlier} already"
            raise InputProblem(what, where=_cell(path, row, columns[0]), next_step="keep one row, for instance their mean")
        first[names] = row


def _accuracy(text: str | None, where: str) -> float:
    """Return an accuracy from 0 to 1; a number that looks like a percentage is not guessed at but refused with the hint."""
    if text is None:
        raise InputProblem("is empty", where=where, next_step="fill it in or take the row out")
    value = _number(text.removesuffix("%"), text, where)
    if text.endswith("%") or 1 < value <= 100:
        raise InputProblem(
            f"{text} is a percentage; accuracies go from 0 to 1", where=where, next_step=f"write {value / 100:g}"
        )
    if not 0 <= value <= 1:
        raise InputProblem(f"{text} is not from 0 to 1", where=where, next_step="correct it")
    return value


def _score(text: str | None, where: str) -> float | None:
    if text is None or text.lower() == "nan":
        return None
    value = _number(text, text, where)
    if not math.isfinite(value):
        raise InputProblem(f"{text} is not finite", where=where, next_step="leave the cell empty where there is no score")
    return value


def _number(number: str, text: str, where: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise InputProblem(f"{text!r} is no number", where=where, next_step="write it with a point, as in 0.812") from None
