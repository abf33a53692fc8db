"""A transfer table of the user's, checked and brought into the form of `language_pairs`.

Columns: task, source, target, score; optionally metric, n_target (target examples in training, also called n_shots), n_source,
seed; every other column of numbers is a feature of the pair. `source` is one language or a mix with its examples
(`stages.languages.mix`); what a mix has of the target itself counts as target examples. What is wrong beyond doubt is refused
with its row and column; what stands for "unknown" becomes null, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from stages.languages import mix, names
from stages.languages.cells import ROW, Cells
from stages.languages.placeholders import without_placeholders

NEEDED = ("task", "source", "target", "score")
KEYS = ["task", "source", "target", "n_shots", "seed"]
FACTS = [*KEYS, "score", "metric", "n_source", "n_target"]
SHOWN = 5  # languages in a note


@dataclass(frozen=True)
class Accepted:
    """The table in the form of `language_pairs`, and what was changed, in words."""

    pairs: pl.DataFrame
    notes: list[str]


def accept(raw: pl.DataFrame, where: str) -> Accepted:
    """Check and convert a user's table; `where` names it in messages.

    Raises:
        InputProblem: a column is missing, a language unknown, a score out of range, two rows contradict each other, or one task
            mixes metrics; with the row and the column.
    """
    cells = Cells(where)
    table = raw.rename({"n_shots": "n_target"}) if "n_shots" in raw.columns and "n_target" not in raw.columns else raw
    for name in NEEDED:
        if name not in table.columns:
            cells.refuse(f"has no column {name!r}; its columns: {', '.join(raw.columns)}", "add or rename it")
    table = _scores(table.with_row_index(ROW, offset=1), cells)
    given = set(table.columns)
    table = table.with_columns(cells.texts(table, "task"))
    table = table.with_columns(cells.texts(table, "metric") if "metric" in given else pl.lit(None, pl.String).alias("metric"))
    _one_metric(table, cells)
    features = _feature_columns(table, cells)
    table = table.with_columns(cells.numbers(table, name) for name in features)
    table = _examples(_languages(table, cells), cells)
    table, noted = without_placeholders(table, features)
    cells.notes += noted
    table = _once(table, cells)
    return Accepted(table.select(*FACTS, *[name for name in features if name in table.columns]).sort(KEYS), cells.notes)


def _scores(table: pl.DataFrame, cells: Cells) -> pl.DataFrame:
    """Return the rows that have a score; all scores lie between 0 and 1."""
    score = cells.numbers(table, "score")
    table = table.with_columns(score).filter(pl.col("score").is_not_null())
    if table.height < len(score):
        cells.notes.append(f"{len(score) - table.height} rows without a score left out")
    if table.is_empty():
        cells.refuse("holds no score", "fill it", column="score")
    wrong = table.filter(~pl.col("score").is_between(0, 1))
    if wrong.height:
        row, value = wrong.select(ROW, "score").row(0)
        percent = wrong["score"].is_between(1, 100).all()
        next_step = "divide scores in percent by 100" if percent else "correct it, or take the row out"
        cells.refuse(f"{value:g} is outside 0 to 1, in {wrong.height} rows in all", next_step, row=row, column="score")
    return table


def _one_metric(table: pl.DataFrame, cells: Cells) -> None:
    """Refuse a task whose scores are of several metrics."""
    firsts = table.group_by("task", "metric", maintain_order=True).agg(pl.col(ROW).first())
    for (task,), rows in firsts.group_by("task", maintain_order=True):
        if rows.height > 1:
            (first, one), (row, other) = rows.select(ROW, "metric").head(2).iter_rows()
            cells.refuse(
                f"task {task!r} is scored by {other!r} here and by {one!r} in row {first}; metrics are never pooled",
                "make a task of each",
                row=row,
                column="metric",
            )


def _feature_columns(table: pl.DataFrame, cells: Cells) -> list[str]:
    """Return the columns of numbers that are no facts; others are left out with a note."""
    rest = [name for name in table.columns if name not in {*FACTS, ROW}]
    numeric = [name for name in rest if table.schema[name].is_numeric() or table.schema[name] in (pl.Boolean, pl.Null)]
    if len(numeric) < len(rest):
        cells.notes.append(f"columns that hold no numbers left out: {', '.join(sorted(set(rest) - set(numeric)))}")
    return sorted(numeric)


def _languages(table: pl.DataFrame, cells: Cells) -> pl.DataFrame:
    """Bring source and target to their codes; add of_mix and in_mix, the examples of the source without the target, and of it.

    A source is named with its examples where it is a mix, or where one task has one language with several numbers of them.
    """
    rewritten: dict[str, str] = {}

    def code(written: str, row: int, column: str) -> str:
        if written not in rewritten:
            found = names.code_of(written)
            if found is None:
                cells.refuse(f"there is no language {written!r}; {names.near(written)}", "correct it", row=row, column=column)
            rewritten[written] = found
        return rewritten[written]

    parsed: dict[str, mix.Members] = {}
    found = []
    columns = (table[ROW], table["task"], cells.texts(table, "source"), cells.texts(table, "target"))
    for row, task, source, target in zip(*columns, strict=True):
        if source not in parsed:
            parsed[source] = _members(source, row, code, cells)
        own = code(target, row, "target")
        rest = {name: size for name, size in parsed[source].items() if name != own}
        sizes = [size for size in rest.values() if size is not None]
        found.append((task, own, rest, sum(sizes) if len(sizes) == len(rest) else None, parsed[source].get(own)))
    changed = sorted(f"{old} is {new}" for old, new in rewritten.items() if old != new)
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        cells.notes.append(f"languages written in another way: {', '.join(changed[:SHOWN])}{more}")
    alone: dict[tuple[str, str], set[int | None]] = {}
    for task, _, rest, size, _ in found:
        if len(rest) == 1:
            alone.setdefault((task, next(iter(rest))), set()).add(size)

    def name(task: str, own: str, rest: mix.Members) -> str:
        single = next(iter(rest)) if len(rest) == 1 else None
        if single is not None and len(alone[task, single]) == 1:
            return single
        return mix.write(rest) if rest else own  # a target's examples alone are no transfer

    return table.with_columns(
        pl.Series("source", [name(task, own, rest) for task, own, rest, *_ in found], dtype=pl.String),
        pl.Series("target", [own for _, own, *_ in found], dtype=pl.String),
        pl.Series("of_mix", [size for *_, size, _ in found], dtype=pl.Int64),
        pl.Series("in_mix", [size for *_, size in found], dtype=pl.Int64),
    )


def _members(source: str, row: int, code: Callable[[str, int, str], str], cells: Cells) -> mix.Members:
    """Return the codes of a source's languages with their examples."""
    try:
        written = mix.parse(source)
    except ValueError as error:
        cells.refuse(f"{source!r} {error}", "write `en`, or `en:1000+es:500`", row=row, column="source")
    members: mix.Members = {}
    for name, size in written.items():
        language = code(name, row, "source")
        if language in members:
            cells.refuse(f"{source!r} names {language!r} twice", "add its examples up", row=row, column="source")
        members[language] = size
    return members


def _examples(table: pl.DataFrame, cells: Cells) -> pl.DataFrame:
    """Add n_shots, from n_target and the mix, n_source and seed; numbers that contradict each other are refused."""
    given = {name: cells.counts(table, name) for name in ("n_target", "n_source", "seed") if name in table.columns}
    nothing = pl.Series([None] * table.height, dtype=pl.Int64)
    asked, in_mix = given.get("n_target", nothing), table["in_mix"]
    clash = ((asked != in_mix) & asked.is_not_null() & in_mix.is_not_null()).fill_null(value=False).arg_true()
    if len(clash):
        at = clash[0]
        what = f"says {asked[at]} target examples, the source says {in_mix[at]}"
        cells.refuse(what, "correct one", row=table[ROW][at], column="n_target")
    shots = in_mix.fill_null(asked) if "n_target" in given else in_mix.fill_null(0)
    if shots.null_count():
        cells.refuse(
            "is empty", "write 0 where there are none", row=table[ROW][shots.is_null().arg_true()[0]], column="n_target"
        )
    if "n_target" not in given and in_mix.null_count() == len(in_mix):
        cells.notes.append("no column n_target: all scores count as measured without target examples")
    return table.with_columns(
        shots.alias("n_shots"),
        table["of_mix"].fill_null(given.get("n_source", nothing)).alias("n_source"),
        given.get("seed", nothing).fill_null(0).alias("seed"),
        nothing.alias("n_target"),  # test examples of the target, which such a table does not tell
    )


def _once(table: pl.DataFrame, cells: Cells) -> pl.DataFrame:
    """Return each measurement once; rows that say the same are counted, those that differ in the score refused."""
    once = table.unique([*KEYS, "score"], keep="first", maintain_order=True)
    again = once.filter(pl.struct(KEYS).is_duplicated()).sort(*KEYS, ROW)
    if again.height:
        first, second = again[ROW][:2].to_list()
        cells.refuse(
            f"gives what row {first} gives (task, source, target, n_target, seed) another score",
            "tell repeated runs apart by a column `seed`, and models or data by `task`",
            row=second,
            column="score",
        )
    if once.height < table.height:
        cells.notes.append(f"{table.height - once.height} rows that repeat another one left out")
    return once
