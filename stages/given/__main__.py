"""python -m stages.given --encoder minilm

DVC entry: take features computed elsewhere as those of an encoder. The rows of the user's files are brought into the order of
each dataset by their ids, and every number is looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import entry
from stages.artifacts import atomic, features, manifest
from stages.artifacts.dataset import Dataset
from stages.errors import InputProblem
from stages.given.files import Files, Layer, open_files
from stages.mapped import Release
from stages.params import GivenFeatures, Params
from stages.progress import bar


def main(settings: Params, name: str) -> None:
    """Write `data/features/<name>/`, one folder a dataset, as stage extract does for an encoder.

    Raises:
        InputProblem: no such features or dataset, rows that are missing, there twice or labelled otherwise, features of
            another shape or not finite; with file and row, counted from 0.
    """
    given = settings.candidate(name)
    if not isinstance(given, GivenFeatures):
        raise InputProblem(
            f"{name!r} is an encoder, whose features stage extract computes", next_step=f"dvc repro extract@{name}"
        )
    with atomic.new_folder(features.FEATURES / name) as folder:
        for dataset_name in settings.datasets_of(name):
            dataset = Dataset.open(dataset_name)
            files = open_files(given, dataset_name, f"params.yaml: features.{name}")
            place = places(files, dataset)
            (folder / dataset_name).mkdir()
            with bar(f"take {name} on {dataset_name}", len(place) * len(files.layers), "rows") as advance:
                for layer, source in files.layers.items():
                    target = folder / dataset_name / f"{layer}.npy"
                    for rows in bring(source, place, files.ids, target, len(dataset.rows), np.dtype(settings.extract.dtype)):
                        advance(rows)
            features.finish(
                folder / dataset_name, name, dataset, layers=files.layers, grids={}, dtype=settings.extract.dtype,
                inputs={member.name: manifest.sha256(member) for member in files.members}, source_classes=None,
            )  # fmt: skip
            left = int((place < 0).sum())
            print(f"{name} on {dataset_name}: {len(dataset.rows):,} rows, {left:,} of other ids left out", file=sys.stderr)


def places(files: Files, dataset: Dataset) -> NDArray[np.int64]:
    """Return, for every row of the files, the row of the dataset that it belongs to, or -1.

    Raises:
        InputProblem: rows of the dataset are missing, or the files name another label for a row.
    """
    rows = dataset.rows.select("id", "label").with_row_index("place")
    missing = rows.join(files.ids.to_frame("id"), on="id", how="anti", maintain_order="left")
    if len(missing):
        hint = "name the column of ids by `id_column`"
        if files.numbered:
            hint = (
                "the rows have no ids of their own: write them one a line into <dataset>.ids.txt in the folder that `path` "
                "names, or number the dataset's rows too, by kind `table` with `id_column: null`"
            )
        raise InputProblem(
            f"has no features for {len(missing)} of {len(rows)} rows of dataset {dataset.name!r}, "
            f"the first is {missing['id'][0]!r}",
            where=files.where,
            next_step=hint,
        )
    found = files.ids.to_frame("id").join(rows, on="id", how="left", maintain_order="left")
    if files.labels is not None:
        other = (found["label"].is_not_null() & files.labels.ne_missing(found["label"])).arg_true()
        if len(other):
            row = other[0]
            raise InputProblem(
                f"{len(other)} rows have another label than in dataset {dataset.name!r}, the first is row {row}: "
                f"{files.ids[row]!r} is {files.labels[row]!r} here and {found['label'][row]!r} there",
                where=files.where,
                next_step="mend the labels, or `label_column: null` where they only have other names",
            )
    return found["place"].cast(pl.Int64).fill_null(-1).to_numpy()


def bring(
    layer: Layer, place: NDArray[np.int64], ids: pl.Series, target: Path, total: int, dtype: np.dtype[Any]
) -> Iterator[int]:
    """Write one layer [total, d] to `target` in the dataset's order, and yield the number of rows read, block by block.

    Raises:
        InputProblem: a row of the dataset's holds a number that is not finite in `dtype`.
    """
    written = np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=(total, layer.shape[1]))
    release, start = Release(written), 0
    for block in layer.blocks():
        to = place[start : start + len(block)]
        with np.errstate(over="ignore"):  # told below
            kept = block[to >= 0].astype(dtype)
        finite = np.isfinite(kept).all(axis=1)
        if not finite.all():
            row = start + int(np.flatnonzero(to >= 0)[np.flatnonzero(~finite)[0]])
            raise InputProblem(
                f"holds a number that is not finite in {dtype} in row {row}, of {ids[row]!r}", where=layer.where,
                next_step="compute it again; where it is too large for float16, set `extract.dtype: float32`",
            )  # fmt: skip
        written[to[to >= 0]] = kept
        release.after(len(kept))
        start += len(block)
        yield len(block)
    written.flush()


if __name__ == "__main__":
    entry.run("given", main, item="encoder")
