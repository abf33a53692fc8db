"""What an earlier extraction holds of a dataset's images already: a dataset that has grown costs its new images.

An image's features depend on its content, the encoder and the size of the batch, not on the images beside it (see
`run_encoder`), so rows of an earlier run stand for those of a new one bit by bit. As that is a property of the kernels that
torch picks on this machine, it is put to the proof each time: one batch of known images is computed again among others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.artifacts import atomic, manifest, store
from stages.artifacts.dataset import Dataset
from stages.errors import InputProblem
from stages.extraction.forward import run_encoder
from stages.extraction.job import Arrays, Job
from stages.extraction.pixels import decoded

JOINED = "joined"
VERSION = 2  # of what `joined` holds
KNOWN = "known"
CONTENTS = "contents.parquet"  # the images' sha256, in row order
ROWS = "rows.parquet"  # of each row the one in the earlier run, or null
WORTH = 2  # batches of known images below which the proof costs more than it saves


@dataclass(frozen=True)
class Known:
    """Arrays of an earlier run, linked into a new run's folder, and which row is which."""

    folder: Path

    @classmethod
    def of(cls, work: Path) -> Self | None:
        """Return what a run has planned to take over, or None."""
        return cls(work / KNOWN) if (work / KNOWN).is_dir() else None

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Return the earlier row of each row [n], -1 where the image is new."""
        return _numbers(pl.read_parquet(self.folder / ROWS))

    @property
    def new(self) -> NDArray[np.int64]:
        """Return the numbers of the rows that are new, ascending."""
        return np.flatnonzero(self.rows < 0)


def arrays_in(folder: Path) -> Arrays:
    """Return a finished run's arrays by name, memory-mapped."""
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def pending(dataset: Dataset, work: Path) -> Dataset:
    """Return the dataset's rows that are to be computed: all, or the new ones."""
    known = Known.of(work)
    return dataset if known is None else dataset.only(known.new)


def take_over(job: Job, dataset: Dataset, work: Path) -> None:
    """Link into `work` what the best of its sibling folders holds of the dataset's images, if that is worth it and true."""
    contents = _contents(dataset.rows["sha256"])
    found = max(_finished(work, contents), key=lambda pair: pair[1]["row"].count(), default=None)
    if found is None or found[1]["row"].count() < WORTH * job.batch_size:
        return
    joined, rows = found
    try:
        manifest.read(joined, kind="extraction", version=VERSION, made_by="extract", verify=True)
    except InputProblem:
        return
    number = rows["row"].count()
    if not holds(job, dataset, arrays_in(joined), _numbers(rows)):
        print(f"{job.label}: {number:,} known images come out differently beside others: all are computed", file=sys.stderr)
        return
    with atomic.new_folder(work / KNOWN) as folder:
        for path in joined.glob("*.npy"):
            store.link(path, folder / path.name)
        rows.select("row").write_parquet(folder / ROWS, compression="zstd")
    print(f"{job.label}: {number:,} of {len(rows):,} images are known from an earlier run", file=sys.stderr)


def holds(job: Job, dataset: Dataset, earlier: Arrays, rows: NDArray[np.int64]) -> bool:
    """Say whether a batch of known images, from both ends and in another order, comes out as before, to the bit."""
    there = np.flatnonzero(rows >= 0)
    half = -(-min(job.batch_size, len(there)) // 2)  # the ends lie in few of the dataset's shards
    chosen = np.union1d(there[:half], there[-half:])[: job.batch_size]
    images = list(dataset.only(chosen).images())[::-1]
    (arrays,) = run_encoder(job, decoded(job, [images]))
    places = rows[chosen][::-1]
    return arrays.keys() == earlier.keys() and all(
        np.array_equal(_bits(array), _bits(earlier[name][places])) for name, array in arrays.items()
    )


def merged(earlier: NDArray[Any], known: Known, fresh: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of one array in order, in blocks of `size`: those of `earlier`, and of `fresh` one after the other."""
    waiting = np.empty(0)
    for start in range(0, len(known.rows), size):
        rows = known.rows[start : start + size]
        block = np.array(earlier[np.maximum(rows, 0)])
        places = np.flatnonzero(rows < 0)
        while len(places):
            waiting = waiting if len(waiting) else next(fresh)
            now, waiting = waiting[: len(places)], waiting[len(places) :]
            block[places[: len(now)]], places = now, places[len(now) :]
        yield block


def keep_contents(dataset: Dataset, joined: Path) -> None:
    """Write beside finished arrays which images their rows are of."""
    _contents(dataset.rows["sha256"]).to_frame().write_parquet(joined / CONTENTS, compression="zstd")


def _contents(hashes: pl.Series) -> pl.Series:
    return hashes.str.decode("hex").alias("content")


def _finished(work: Path, contents: pl.Series) -> Iterator[tuple[Path, pl.DataFrame]]:
    """Yield the finished runs beside `work`, each with the row that it has of every content, or null."""
    for path in sorted(work.parent.glob(f"*/{JOINED}/{CONTENTS}")):
        there = pl.read_parquet(path).with_row_index("row").unique("content", keep="first", maintain_order=True)
        yield path.parent, contents.to_frame().join(there, on="content", how="left", maintain_order="left")


def _numbers(rows: pl.DataFrame) -> NDArray[np.int64]:
    return rows["row"].fill_null(-1).to_numpy().astype(np.int64)


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).view(np.uint8)
