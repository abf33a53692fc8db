"""One task's examples in all languages, split so that no test entity and no test text is ever trained on, in any language."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from stages import seeds
from stages.errors import InputProblem
from stages.languages.cells import ROW, Cells
from stages.languages.cldr import normalise
from stages.languages.names import code_of, near
from stages.languages.texts import Texts

TEST_SHARE = 0.3  # of the entities


def gather(task: Callable[[str], pl.DataFrame], languages: Sequence[str]) -> pl.DataFrame:
    """Return language, entity, text, label of all languages, sorted; raises InputProblem where a language has no example."""
    frames = []
    for language in sorted(set(languages)):
        examples = task(language)
        if examples.is_empty():
            raise InputProblem(f"the task has no example in {language!r}", where="languages.languages", next_step="take it out")
        frames.append(examples.select(pl.lit(language).alias("language"), "entity", "text", "label"))
    return pl.concat(frames).sort("language", "entity", "text")


def split(examples: pl.DataFrame, *, run_seed: int, task: str, seed: int, max_train: int) -> pl.DataFrame:
    """Add `part`: "train", "test" or null (used for neither).

    An entity is a test entity in all languages or in none; which, depends on its code alone, so that adding languages or
    entities moves none to the other side. A test text that is also a training text of any language is used for neither, and
    of a language's training examples the `max_train` first in an order drawn by entity are kept.
    """
    entities = examples.get_column("entity").unique().sort().to_list()
    draws = [seeds.integer_seed(run_seed, "languages", task, seed, entity) / 2**31 for entity in entities]
    drawn = examples.join(pl.DataFrame({"entity": entities, "draw": draws}), on="entity", maintain_order="left")
    is_test = pl.col("draw") < TEST_SHARE
    trained = drawn.filter(~is_test).get_column("text").unique().sort().to_list()
    place = pl.col("draw").rank("ordinal", descending=True).over("language")  # training entities have the high draws
    part = (
        pl.when(is_test & ~pl.col("text").is_in(trained))
        .then(pl.lit("test"))
        .when(~is_test & (place <= max_train))
        .then(pl.lit("train"))
    )
    return drawn.with_columns(part.alias("part")).drop("draw").sort("language", "entity", "text")


def given_texts(raw: pl.DataFrame, cells: Cells) -> Texts:
    """Return the texts of each language of a user's table with the columns language and text, as the features read them."""
    for name in ("language", "text"):
        if name not in raw.columns:
            cells.refuse(f"has no column {name!r}; its columns: {', '.join(raw.columns)}", "add or rename it")
    table = raw.with_row_index(ROW, offset=1)
    table = table.with_columns(cells.texts(table, "language"), cells.texts(table, "text"))
    codes = {written: code_of(written) for written in table["language"].unique()}
    unknown = table.filter(pl.col("language").replace_strict(codes, return_dtype=pl.String).is_null())
    if unknown.height:
        row, written = unknown.select(ROW, "language").row(0)
        cells.refuse(f"there is no language {written!r}; {near(written)}", "correct it", row=row, column="language")
    coded = table.with_columns(pl.col("language").replace_strict(codes, return_dtype=pl.String)).sort("language", ROW)
    return {
        str(language): tuple(normalise(text) for text in rows["text"])
        for (language,), rows in coded.group_by("language", maintain_order=True)
    }
