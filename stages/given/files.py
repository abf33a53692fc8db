"""The user's files of features: which file holds a dataset's, its shape, its ids, and its rows block by block.

Only ids and labels are held whole; features are read in blocks, from .npy through a memory map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.datasets.table import check_ids, row_numbers
from stages.errors import InputProblem, nearest
from stages.mapped import Release
from stages.params import GivenFeatures

BLOCK = 4096  # rows read at once: 12 MiB of float32 at 768 dimensions
READ_BYTES = 2**20  # of a .parquet at once
Blocks = Callable[[], Iterator[NDArray[Any]]]


@dataclass(frozen=True)
class Layer:
    """One layer: n rows of d numbers.

    Attributes:
        where: file and column, for messages.
        shape: (n, d).
        blocks: reads the rows in order, [<= BLOCK, d] each; raises InputProblem at a row that is null or of another length.
    """

    where: str
    shape: tuple[int, int]
    blocks: Blocks


@dataclass(frozen=True)
class Files:
    """The features of one dataset as the user's files hold them.

    Attributes:
        where: the file or folder.
        members: every file that is read.
        layers: name -> layer, all of as many rows.
        ids: [n], unique.
        labels: [n] as text, or None where the file has none to compare.
        numbered: the ids are the rows' numbers, because the files bring none.
    """

    where: str
    members: tuple[Path, ...]
    layers: dict[str, Layer]
    ids: pl.Series
    labels: pl.Series | None
    numbered: bool


def file_of(given: GivenFeatures, dataset: str, where: str) -> Path:
    """Return the file or folder with a dataset's features; raises InputProblem where there is none, or several."""
    path = given.path
    if not path.exists():
        raise InputProblem(f"{path} does not exist", where=f"{where}.path")
    if path.is_file():
        if path.suffix not in (".parquet", ".npy"):
            raise InputProblem(f"{path} is no .parquet and no .npy", where=f"{where}.path")
        return path
    names = (f"{dataset}.parquet", f"{dataset}.npy", dataset)
    found = [path / name for name in names if (path / name).exists()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputProblem(f"{' and '.join(member.name for member in found)} are there; keep one", where=str(path))
    present = nearest(f"{dataset}.parquet", (member.name for member in path.iterdir()))
    raise InputProblem(
        f"holds none of {', '.join(names)}/ for dataset {dataset!r}; {present}", where=str(path),
        next_step="put its features there, or take the dataset out of params.yaml",
    )  # fmt: skip


def open_files(given: GivenFeatures, dataset: str, where: str) -> Files:
    """Open the features of a dataset without reading a feature.

    Args:
        given: what params.yaml says.
        dataset: the dataset's name.
        where: the place in params.yaml, for messages.

    Raises:
        InputProblem: no such file, column or layer, a damaged file, features that are no numbers or not n rows of d, ids
            that are missing or there twice, layers of different lengths.
    """
    path = file_of(given, dataset, where)
    opened = _from_table(path, given) if path.suffix == ".parquet" else _from_arrays(path, given)
    lengths = {name: layer.shape[0] for name, layer in opened.layers.items()}
    for name, length in lengths.items():
        if length != len(opened.ids):
            raise InputProblem(f"has {length} rows for {len(opened.ids)} ids", where=opened.layers[name].where)
    check_ids(opened.ids, opened.where)
    return opened


def _from_arrays(path: Path, given: GivenFeatures) -> Files:
    if path.is_file():
        if given.columns and list(given.columns.values()) != [path.stem]:
            raise InputProblem(
                "holds one layer, and `columns` names others", where=str(path),
                next_step=f"make it a folder {path.with_suffix('')}/ with one .npy a layer",
            )  # fmt: skip
        files = {given.layers[0]: path}
    else:
        present = sorted(path.glob("*.npy"))
        columns = given.columns or ({"pooled": present[0].stem} if len(present) == 1 else {"pooled": "pooled"})
        files = {layer: path / f"{column}.npy" for layer, column in columns.items()}
        for file in files.values():
            if not file.is_file():
                raise InputProblem(
                    f"holds no {file.name}; {nearest(file.stem, (one.stem for one in present))}", where=str(path)
                )
    layers = {name: _array(file) for name, file in files.items()}
    listed = path.with_suffix(".ids.txt")  # beside the .npy, or beside the folder
    if listed.is_file():
        if not listed.is_relative_to(given.path):
            raise InputProblem(
                f"lies beside {path}, where DVC does not watch it", where=str(listed),
                next_step="put both into a folder, the .npy named <dataset>.npy, and name the folder as `path`",
            )  # fmt: skip
        ids = pl.Series(listed.read_text(encoding="utf-8").splitlines(), dtype=pl.String)
        return Files(str(path), (*files.values(), listed), layers, ids, None, numbered=False)
    total = next(iter(layers.values())).shape[0]
    return Files(str(path), tuple(files.values()), layers, row_numbers(total), None, numbered=True)


def _array(path: Path) -> Layer:
    where = str(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputProblem(f"cannot be read as .npy ({error})", where=where) from None
    if array.ndim != 2 or not array.size:
        raise InputProblem(f"has shape {array.shape}; rows of features are needed, (n, d)", where=where)
    if array.dtype.kind not in "fiu":
        raise InputProblem(f"holds {array.dtype}; floats or integers are needed", where=where)

    def blocks() -> Iterator[NDArray[Any]]:
        release = Release(array)
        for start in range(0, len(array), BLOCK):
            block = np.asarray(array[start : start + BLOCK])
            yield block
            release.after(len(block))

    return Layer(where, (array.shape[0], array.shape[1]), blocks)


def _from_table(path: Path, given: GivenFeatures) -> Files:
    where = str(path)
    try:
        table = pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False)  # a row group may be larger than memory
        schema = table.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputProblem(f"cannot be read as parquet ({error})", where=where) from None
    lists = [field.name for field in schema if _is_list(field.type)]
    columns = given.columns or _only(lists, where)
    for key in ("id_column", "label_column"):
        column = getattr(given, key)
        default = type(given).model_fields[key].default
        if column is not None and column not in schema.names and (key == "id_column" or column != default):
            hint = ", or `id_column: null` to number the rows" if key == "id_column" else ""
            raise InputProblem(f"has no column {column!r} for `{key}`; {nearest(column, schema.names)}{hint}", where=where)
    layers = {name: _column(table, column, lists, where) for name, column in columns.items()}
    text = [name for name in (given.id_column, given.label_column) if name is not None and name in schema.names]
    try:
        read = pl.read_parquet(path, columns=text).select(pl.col(name).cast(pl.String) for name in text)
    except pl.exceptions.PolarsError as error:
        raise InputProblem(f"{' and '.join(text)} cannot be read as text ({error})", where=where) from None
    numbered = given.id_column is None
    ids = row_numbers(table.metadata.num_rows) if given.id_column is None else read[given.id_column]
    return Files(where, (path,), layers, ids, read[text[-1]] if given.label_column in text else None, numbered)


def _is_list(kind: Any) -> bool:
    kind = getattr(kind, "storage_type", kind)  # of a fixed-shape tensor
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists) and (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    )


def _only(lists: list[str], where: str) -> dict[str, str]:
    if len(lists) == 1:
        return {"pooled": lists[0]}
    if not lists:
        raise InputProblem("has no column of lists of numbers", where=where)
    raise InputProblem(
        f"has several columns of features: {', '.join(lists)}", where=where,
        next_step=f"say which is which layer, for instance `columns: {{pooled: {lists[0]}}}`, then `transferscope check`",
    )  # fmt: skip


def _column(table: Any, column: str, lists: list[str], file: str) -> Layer:
    if column not in lists:
        raise InputProblem(f"has no column {column!r} of lists of numbers; {nearest(column, lists)}", where=file)
    where, total = f"{file}, column {column!r}", table.metadata.num_rows
    if not total:
        raise InputProblem("has no rows", where=file)
    first = next(iter(table.iter_batches(1, columns=[column]))).column(0)
    if first.null_count or not len(first[0]):
        raise InputProblem("holds no features in row 0", where=where)
    d = len(first[0].as_py())

    def blocks() -> Iterator[NDArray[Any]]:
        start = 0
        try:
            for batch in table.iter_batches(BLOCK, columns=[column]):
                yield _numbers(batch.column(0), d, start, where)
                start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise InputProblem(f"cannot be read after row {start} ({error})", where=where) from None

    return Layer(where, (total, d), blocks)


def _numbers(lists: Any, d: int, start: int, where: str) -> NDArray[Any]:
    """Return a batch of lists as [rows, d]; `start` is the number of its first row."""
    lists = getattr(lists, "storage", lists)
    if lists.null_count:
        row = start + int(np.flatnonzero(np.asarray(lists.is_null()))[0])
        raise InputProblem(f"holds no features in row {row}", where=where)
    if not pa.types.is_fixed_size_list(lists.type):
        lengths = np.asarray(lists.value_lengths())
        if (lengths != d).any():
            row = int(np.flatnonzero(lengths != d)[0])
            raise InputProblem(f"holds {lengths[row]} numbers in row {start + row}, and {d} in row 0", where=where)
    values = lists.flatten()
    if values.null_count:
        row = start + int(np.flatnonzero(np.asarray(values.is_null()))[0]) // d
        raise InputProblem(f"holds a missing number in row {row}", where=where)
    return np.asarray(values).reshape(-1, d)
