"""Questions to the result tables: SQL through polars, the answers as a table on the screen, CSV, JSON or a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from stages.artifacts import tables
from stages.errors import InputProblem, Problem, nearest
from stages.questions import by_question

FEW_ANSWERS = 6  # of one question; more are told in short
SHOWN_ROWS = 100  # on the screen; --csv, --json and --out give all
_NAME = re.compile(r"relation '([^']+)'|table '([^']+)'")


@dataclass(frozen=True)
class Made:
    """One result table as it is on the disk: its rows, or why it cannot be read."""

    name: str
    rows: int | None
    problem: Problem | None


def made() -> Iterator[Made]:
    """Yield every table of the schema in its order, whether it has been made or not."""
    for name in tables.SCHEMAS:
        try:
            yield Made(name, tables.load(name).height, None)
        except InputProblem as problem:
            yield Made(name, None, problem)


def ask(sql: str) -> pl.DataFrame:
    """Answer one SELECT over the result tables, each under its own name.

    Raises:
        InputProblem: the SQL is wrong, or names a table that does not exist or has not been made.
    """
    problems: dict[str, Problem] = {}
    with pl.SQLContext() as context:
        for name in tables.SCHEMAS:
            if not re.search(rf"\b{re.escape(name)}\b", sql, re.IGNORECASE):
                continue
            try:
                context.register(name, tables.load(name))
            except InputProblem as problem:
                problems[name] = problem
        try:
            answer = context.execute(sql, eager=True)
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise _explained(str(error), problems) from None
    if not isinstance(answer, pl.DataFrame):
        raise InputProblem("the query has no answer; start it with `select`", where="sql")
    return answer


def _explained(message: str, problems: dict[str, Problem]) -> Problem:
    found = _NAME.search(message)
    name = (found[1] or found[2]) if found else ""
    if name in problems:
        return problems[name]
    existing = [name for name in tables.SCHEMAS if tables.result_path(name).is_file()]
    if found:
        known = f"made so far: {', '.join(existing) or 'none'}"
        return InputProblem(f"there is no table {name!r}; {nearest(name, tables.SCHEMAS)}; {known}", where="sql")
    column = re.search(r"unable to find column \"([^\"]+)\"; valid columns: \[(.*?)\]", message)
    if column:
        valid = re.findall(r'"([^"]+)"', column[2])
        return InputProblem(f"there is no column {column[1]!r}; {nearest(column[1], valid, limit=10)}", where="sql")
    first = message.strip().splitlines()[0] if message.strip() else "not understood"
    return InputProblem(first, where="sql", next_step="transferscope tables")


def save(frame: pl.DataFrame, path: Path) -> None:
    """Write an answer to a .parquet, .csv or .json file.

    Raises:
        InputProblem: another ending, or the file cannot be written.
    """
    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".json": frame.write_json,
    }
    if path.suffix not in writers:
        ending = path.suffix or "a file without an ending"
        raise InputProblem(f"cannot write {ending}; valid: {', '.join(writers)}", where=str(path))
    try:
        writers[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputProblem(f"cannot be written ({error})", where=str(path)) from None


def text(frame: pl.DataFrame) -> Table:
    """Return the first rows of an answer for the screen; numbers to the right, null as an empty cell."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, dtype in frame.schema.items():
        shown.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.head(SHOWN_ROWS).iter_rows():
        shown.add_row(*(_cell(value) for value in row))
    return shown


def show(frame: pl.DataFrame) -> None:
    """Print an answer."""
    console = Console(highlight=False, markup=False)
    console.print(text(frame))
    if frame.height > SHOWN_ROWS:
        print(f"... and {frame.height - SHOWN_ROWS:,} more rows; --csv or --out gives all", file=sys.stderr)


def recommendations(target: str | None = None, *, whole: bool = False) -> Group:
    """Return the recommendations for the screen, a heading and a table for each question.

    Args:
        target: a dataset, a language, or any target as the table spells it; None for all.
        whole: a row for every answer; otherwise a question with many has one for each task.

    Raises:
        InputProblem: they have not been made, or say nothing of `target`.
    """
    frame = tables.load("recommendations")
    if target is not None:
        names = frame["target"].unique().to_list()
        # A target may be compound ("glyphs for digits", "entity_type/uk"): any of its words will do.
        words = {name: {name, *re.split(r"/| for ", name)} for name in names}
        chosen = [name for name in names if target in words[name]]
        if not chosen:
            raise InputProblem(f"no recommendation is for {target!r}; {nearest(target, set().union(*words.values()))}")
        frame = frame.filter(pl.col("target").is_in(chosen))
    parts: list[Text | Table] = []
    for question, group in by_question(frame):
        shown = Table(box=None, pad_edge=False, show_header=False, expand=True, padding=(0, 2, 0, 0))
        for share in (2, 4, 6):
            shown.add_column(ratio=share, overflow="fold")
        for row in (group if whole or len(group) <= FEW_ANSWERS else _in_short(group)).iter_rows(named=True):
            why = row["evidence"]
            if row["margin"] is not None:
                why += f"; margin {row['margin']:.3g}"
            if row["warning"] is not None:
                why += f"; warning: {row['warning']}"
            shown.add_row(Text(row["target"]), Text(row["answer"]), Text(why, style="dim"))
        parts += [Text(f"\n{question}?" if parts else f"{question}?", style="bold"), shown]
    return Group(*parts)


def _in_short(group: pl.DataFrame) -> pl.DataFrame:
    """Return one row a task: the answers of its languages in a line."""
    named = group.with_columns(
        task=pl.col("target").str.split("/").list.first(), of=pl.col("target").str.split("/").list.last()
    )
    return named.group_by("task", maintain_order=True).agg(
        pl.format("{}: {}", "of", pl.col("answer").str.replace(" for a score of.*", "")).str.join(", ").alias("answer"),
        evidence=pl.format("{} languages; --all shows each with its evidence", pl.len()),
        margin=pl.lit(None, pl.Float64), warning=pl.lit(None, pl.String),
    ).rename({"task": "target"})  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
