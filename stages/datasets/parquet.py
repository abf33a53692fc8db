"""Kind `parquet`: encoded images in a column beside their label, as Hugging Face datasets store them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.artifacts.dataset import Split
from stages.datasets.contract import DatasetKind, Raw, Source, split_named
from stages.errors import InputProblem, nearest
from stages.params import Section

BATCH_ROWS = 64


class Options(Section):
    """Where the tables are and what their columns are called."""

    path: Path  # one file, or a folder of *.parquet at any depth
    image_column: str = "image"  # binary, or a struct with a binary field `bytes`
    label_column: str = "label"  # integer or text
    class_names: list[str] | None = None  # for integer labels; read from Hugging Face's own metadata where absent
    split_column: str | None = None  # else the file names (train-*, validation-*, test-*) or their folders tell


def read(options: Options) -> Source:
    """Open one table or a folder of tables, read by row group: memory does not grow with the number of rows.

    The id is `<file without suffix>/<row>`. An integer label outside the class names, as -1 in unlabelled test
    tables, is no label.

    Raises:
        InputProblem: nothing there, a damaged table, a column that is absent or of another type, or splits that are
            known for some rows only.
    """
    files = _tables(options.path)
    opened = {name: _open(path) for name, path in files.items()}
    total, names = 0, options.class_names
    for name, table in opened.items():
        _check_columns(table.schema_arrow, options, str(files[name]))
        names = names or _huggingface_names(table.schema_arrow, options.label_column)
        total += table.metadata.num_rows
        table.close()
    splits: dict[str, Split | None] = dict.fromkeys(files)
    if options.split_column is None:
        splits = {name: _split_of(name) for name in files}
        unknown = sorted(name for name, split in splits.items() if split is None)
        if unknown and len(unknown) < len(files):
            raise InputProblem(
                f"its name tells no split, although others do, for instance {next(n for n, s in splits.items() if s)!r}",
                where=str(files[unknown[0]]),
                next_step="rename it to train-*, validation-* or test-*, or name a `split_column`",
            )

    def rows() -> Iterator[Raw]:
        for name, path in files.items():
            yield from _rows(name.removesuffix(".parquet"), path, splits[name], options, names)

    return Source(rows(), total, names)


def _tables(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise InputProblem("does not exist", where=str(path), next_step="check the path: a .parquet file or a folder of them")
    found = {
        member.relative_to(path).as_posix(): member
        for member in path.rglob("*.parquet")
        if not any(part.startswith(".") for part in member.relative_to(path).parts)
    }
    if not found:
        raise InputProblem("holds no *.parquet", where=str(path), next_step="check the path")
    return dict(sorted(found.items()))


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputProblem:
    return InputProblem(f"cannot be read as parquet ({error})", where=str(path), next_step="fetch the file again")


def _split_of(name: str) -> Split | None:
    """Return the split that a file name begins with, or that its nearest folder with a split's name gives."""
    *folders, stem = name.removesuffix(".parquet").split("/")
    for part in (stem, *reversed(folders)):
        split = split_named(re.split(r"[^A-Za-z]", part, maxsplit=1)[0])
        if split is not None:
            return split
    return None


def _check_columns(schema: Any, options: Options, where: str) -> None:
    for key in ("image_column", "label_column", "split_column"):
        column = getattr(options, key)
        if column is not None and column not in schema.names:
            raise InputProblem(f"has no column {column!r} for `{key}`; {nearest(column, schema.names)}", where=where)
    image, label = (schema.field(column).type for column in (options.image_column, options.label_column))
    if pa.types.is_struct(image):
        image = image.field("bytes").type if image.get_field_index("bytes") >= 0 else image
    if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
        raise InputProblem(
            f"column {options.image_column!r} is {image}; encoded bytes are needed, or a struct with a field `bytes`",
            where=where,
        )
    label = label.value_type if pa.types.is_dictionary(label) else label
    if not (pa.types.is_integer(label) or pa.types.is_string(label) or pa.types.is_large_string(label)):
        raise InputProblem(f"column {options.label_column!r} is {label}; integers or text are needed", where=where)


def _huggingface_names(schema: Any, label_column: str) -> list[str] | None:
    """Return the names of a ClassLabel from the schema's `huggingface` metadata, which is JSON, or None."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label_column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if names else None


def _rows(stem: str, path: Path, split: Split | None, options: Options, names: list[str] | None) -> Iterator[Raw]:
    columns = [column for column in (options.image_column, options.label_column, options.split_column) if column]
    row = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_ROWS, columns=columns):
                for values in batch.to_pylist():
                    if options.split_column is not None:
                        split = _column_split(values[options.split_column], options.split_column, path, row)
                    image = values[options.image_column]
                    content = image.get("bytes") if isinstance(image, dict) else image
                    yield Raw(f"{stem}/{row:08d}", _label(values[options.label_column], names), split, content or b"")
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _column_split(value: object, column: str, path: Path, row: int) -> Split:
    split = split_named(str(value))
    if split is None:
        raise InputProblem(
            f"column {column!r} says {value!r} in row {row}", where=str(path), next_step="use train, val or test in every row"
        )
    return split


def _label(value: int | str | None, names: list[str] | None) -> str | None:
    if isinstance(value, int) and names is not None:
        return names[value] if 0 <= value < len(names) else None
    if value is None or value == -1:
        return None
    return str(value)


KIND = DatasetKind(Options, read)
