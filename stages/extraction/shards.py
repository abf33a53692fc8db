"""Shards from which a killed run goes on: which there are, which remain, how they are written and joined."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.artifacts import atomic, manifest
from stages.artifacts.dataset import Dataset
from stages.extraction.flow import ahead, behind
from stages.extraction.forward import run_encoder
from stages.extraction.growth import JOINED, VERSION, Known, as_planned, finished, keep_contents, merged, pending, take_over
from stages.extraction.job import Arrays, Job, Rows
from stages.extraction.pixels import batches_of, pixels
from stages.extraction.timing import Clock
from stages.progress import bar

PIXELS_AHEAD = 2  # batches from kept pixels
BEHIND = 2  # batches of features that wait to be written

Writer = Callable[[Sequence[Rows], Callable[[int], None], Clock], None]  # as `write_shards`, whose last three these are


def planned(total: int, shard_images: int) -> list[Rows]:
    """Return the shards of a dataset of `total` rows, in order."""
    return [(start, min(start + shard_images, total)) for start in range(0, total, shard_images)]


def remaining(shards: Sequence[Rows], work: Path) -> list[Rows]:
    """Return the shards that `work` does not hold yet."""
    return [rows for rows in shards if not _folder(work, rows).is_dir()]


def extract(
    job: Job, dataset: Dataset, work: Path, clock: Clock | None = None, write: Writer | None = None, *, reuse: bool = True
) -> Path:
    """Return the folder below `work` with one array [n, d] a layer, computing what `work` does not hold yet.

    Folders beside `work` belong to other datasets under the same job: what they hold of this one's images is taken over,
    unless `reuse` is false. `write` writes the missing shards; by default this process does, on the job's device.

    What is there is checked against its sha256 first: the outputs are links to these files, so an edit of an output
    in place damages them too.
    """
    joined = work / JOINED
    if finished(joined):
        _keep_only(work, JOINED)  # a run that was killed at its end leaves parts
        return joined
    if joined.is_dir() or not as_planned(work):
        _keep_only(work)
    if reuse and not any(work.glob("*")):  # a run that has begun goes on as it was planned
        take_over(job, dataset, work)
    extract_shards(job, dataset, work, clock, write)
    join_shards(job, dataset, work)
    _keep_only(work, JOINED)
    return joined


def _keep_only(work: Path, *names: str) -> None:
    for path in work.glob("*"):
        if path.name not in names:
            shutil.rmtree(path)


def extract_shards(job: Job, dataset: Dataset, work: Path, clock: Clock | None = None, write: Writer | None = None) -> None:
    """Write the shards `<first row>/<name>.npy` that `work` does not hold yet, each of `shard_images` rows, atomically."""
    clock = clock or Clock()
    total = len(dataset.rows)
    missing = remaining(planned(len(pending(dataset, work).rows), job.shard_images), work)
    done = total - sum(stop - start for start, stop in missing)
    with bar(f"extract {job.label}", total, "images", done=done, note=clock.told) as advance:
        if missing:
            (write or partial(write_shards, job, dataset, work))(missing, advance, clock)


def write_shards(
    job: Job, dataset: Dataset, work: Path, shards: Sequence[Rows], advance: Callable[[int], None], clock: Clock | None = None
) -> None:
    """Compute and write some of the shards, in one stream: reading, decoding, the encoder and writing run beside each other.

    Args:
        job: what to do.
        dataset: whose images.
        work: the folder that gets one folder a shard.
        shards: some of `planned` for the rows that are `pending`, in order.
        advance: called with the number of images that were written.
        clock: counts where the time goes.
    """
    clock, wanted = clock or Clock(), pending(dataset, work)
    if wanted is not dataset:
        job = replace(job, kept_pixels=None)  # they are kept by rows of the whole dataset
    places = [(rows, stop - start) for rows in shards for start, stop in batches_of(rows, job.batch_size)]

    def write(arriving: Iterator[tuple[Rows, Arrays]]) -> None:
        for rows, parts in groupby(arriving, key=itemgetter(0)):
            _write_shard(rows, (arrays for _, arrays in parts), _folder(work, rows), advance)

    with behind(write, BEHIND) as give:
        source = pixels(job, wanted, shards)
        features = run_encoder(job, ahead(source, PIXELS_AHEAD) if job.kept_pixels else source, clock)
        for (rows, size), arrays in zip(places, features, strict=True):
            with clock.step("write"):
                give((rows, arrays))
            clock.images += size


def _folder(work: Path, rows: Rows) -> Path:
    return work / f"{rows[0]:012d}"


def _length(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _write_shard(rows: Rows, parts: Iterator[Arrays], target: Path, advance: Callable[[int], None]) -> None:
    """Write one shard as its batches come: never more than a batch of it is in memory."""
    files: dict[str, BinaryIO] = {}
    with atomic.new_folder(target) as folder, ExitStack() as opened:
        for arrays in parts:
            for name, array in arrays.items():
                if name not in files:
                    files[name] = opened.enter_context((folder / f"{name}.npy").open("wb"))
                    _write_header(files[name], array.dtype, (rows[1] - rows[0], *array.shape[1:]))
                files[name].write(np.ascontiguousarray(array).data)
            advance(_length(arrays))


def _write_header(handle: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(handle, header)


def join_shards(job: Job, dataset: Dataset, work: Path) -> None:
    """Join the shards and what an earlier run knew into `work/joined`, one memory-mappable array a name.

    One shard is in memory at a time, with a block of as many earlier rows.
    """
    known, total = Known.of(work), len(dataset.rows)
    folders = [_folder(work, rows) for rows in planned(total if known is None else len(known.new), job.shard_images)]
    with atomic.new_folder(work / JOINED) as folder:
        for path in sorted((folders[0] if known is None else known.folder).glob("*.npy")):
            fresh = (np.load(shard / path.name, allow_pickle=False) for shard in folders)
            first = np.load(path, mmap_mode="r", allow_pickle=False)  # of the first shard, or of the earlier run
            with (folder / path.name).open("wb") as whole:
                _write_header(whole, first.dtype, (total, *first.shape[1:]))
                for block in fresh if known is None else merged(first, known, fresh, job.shard_images):
                    whole.write(block.data)
        keep_contents(dataset, folder)
        manifest.write(folder, kind="extraction", version=VERSION, inputs={})
