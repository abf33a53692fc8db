"""What an earlier extraction holds of a dataset's images already: a dataset that has grown costs its new images.

In batches of one size (see `run_encoder`) an image's features mostly depend on its content and the encoder alone, not on its
place in a batch or the images beside it: rows of an earlier run then stand for those of a new one bit by bit. As that is a
property of the kernels that torch picks for a model on this machine, it is put to the proof each time: a batch of known images
is computed again in another order.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
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
ROWS = "rows.parquet"  # of each row the one in the earlier run, or -1
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
        return pl.read_parquet(self.folder / ROWS)["row"].to_numpy()

    @property
    def new(self) -> NDArray[np.int64]:
        """Return the numbers of the rows that are new, ascending."""
        return np.flatnonzero(self.rows < 0)


def finished(folder: Path) -> bool:
    """Say whether a folder of arrays is whole, each file checked against its sha256: links to outputs, it may be edited."""
    try:
        manifest.read(folder, kind="extraction", version=VERSION, made_by="extract", verify=True)
    except (InputProblem, FileNotFoundError):  # another process may be computing it again
        return False
    return True


def arrays_in(folder: Path) -> Arrays:
    """Return a finished run's arrays by name, memory-mapped."""
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def pending(dataset: Dataset, work: Path) -> Dataset:
    """Return the dataset's rows that are to be computed: all, or the new ones."""
    known = Known.of(work)
    return dataset if known is None else dataset.only(known.new)


def take_over(job: Job, dataset: Dataset, work: Path) -> None:
    """Link into `work` what one of its sibling folders holds of the dataset's images, if that is worth it and true.

    The sibling with most of the images is tried first; one that is damaged, or does not stand the proof, is passed over.
    """
    found = ((joined, rows, np.count_nonzero(rows >= 0)) for joined, rows in _siblings(work, _contents(dataset)))
    worth = [run for run in found if run[2] >= WORTH * job.batch_size]
    for joined, rows, number in sorted(worth, key=lambda run: -run[2]):
        if not finished(joined):
            continue
        known = f"{job.label}: {number:,} of {len(rows):,} images are known from an earlier run"
        try:
            if holds(job, dataset, arrays_in(joined), rows):
                _link(joined, rows, work)
                print(known, file=sys.stderr)
                return
            print(f"{known}, but come out differently here in another order: not taken over", file=sys.stderr)
        except FileNotFoundError:  # another process may be computing it again
            continue
        finally:
            if job.device.type == "cuda":  # room for the processes that may do the work
                job.tapped.model.to("cpu")
                torch.cuda.empty_cache()


def _link(joined: Path, rows: NDArray[np.int64], work: Path) -> None:
    with atomic.new_folder(work / KNOWN) as folder:
        for path in joined.glob("*.npy"):
            store.link(path, folder / path.name)
        pl.DataFrame({"row": rows}).write_parquet(folder / ROWS, compression="zstd")
        manifest.write(folder, kind="extraction", version=VERSION, inputs={})


def as_planned(work: Path) -> bool:
    """Say whether a run that has begun can go on: with all that it took over, or with nothing."""
    known = Known.of(work)
    return known is None or finished(known.folder)


def holds(job: Job, dataset: Dataset, earlier: Arrays, rows: NDArray[np.int64]) -> bool:
    """Say whether a batch of known images, from both ends and in another order, comes out as before, to the bit.

    Where features are kept in fewer bits than they are computed in, rounding would hide small differences: then two orders
    of the batch are compared before it.
    """
    there = np.flatnonzero(rows >= 0)
    half = -(-min(job.batch_size, len(there)) // 2)  # the ends lie in few of the dataset's shards
    chosen = np.union1d(there[:half], there[-half:])[: job.batch_size]
    images, stream = list(dataset.only(chosen).images()), np.random.default_rng(0)

    def again(job: Job) -> Arrays:
        order = stream.permutation(len(images))
        (arrays,) = run_encoder(job, decoded(job, [[images[place] for place in order]]))
        return {name: array[np.argsort(order)] for name, array in arrays.items()}

    if job.dtype != "float32":
        whole = replace(job, dtype="float32")
        if not _equal(again(whole), again(whole)):
            return False
    return _equal(again(job), {name: array[rows[chosen]] for name, array in earlier.items()})


def _equal(left: Arrays, right: Arrays) -> bool:
    """Compare bits: -0 is not 0."""
    return left.keys() == right.keys() and all(
        np.ascontiguousarray(left[name]).tobytes() == np.ascontiguousarray(right[name]).tobytes() for name in left
    )


def merged(earlier: NDArray[Any], known: Known, fresh: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of one array in order, in blocks of `size`: those of `earlier`, and of `fresh` one after the other."""
    waiting = np.empty(0)
    for start in range(0, len(known.rows), size):
        rows = known.rows[start : start + size]
        block = np.asarray(earlier[np.maximum(rows, 0)])  # a copy already
        places = np.flatnonzero(rows < 0)
        while len(places):
            waiting = waiting if len(waiting) else next(fresh)
            now, waiting = waiting[: len(places)], waiting[len(places) :]
            block[places[: len(now)]], places = now, places[len(now) :]
        yield block


def keep_contents(dataset: Dataset, joined: Path) -> None:
    """Write beside finished arrays which images their rows are of."""
    _contents(dataset).write_parquet(joined / CONTENTS, compression="zstd")


def _contents(dataset: Dataset) -> pl.DataFrame:
    return dataset.rows.select(content=pl.col("sha256").str.decode("hex"))


def _siblings(work: Path, contents: pl.DataFrame) -> Iterator[tuple[Path, NDArray[np.int64]]]:
    """Yield the arrays' folder of each run beside `work`, with its row of every content, -1 where it has none."""
    for path in sorted(work.parent.glob(f"*/{JOINED}/{CONTENTS}")):
        with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # damaged, or just being deleted
            there = pl.read_parquet(path).with_row_index("row").unique("content", keep="first", maintain_order=True)
            found = contents.join(there, on="content", how="left", maintain_order="left")["row"]
            yield path.parent, found.cast(pl.Int64).fill_null(-1).to_numpy()
