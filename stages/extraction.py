"""The loop behind extract: decode in threads, run the encoder, write shards from which a killed run goes on."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import atomic, manifest
from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import Undecodable, decode_image
from stages.device import autocast
from stages.encoders import Preprocess, Tapped
from stages.errors import InputProblem
from stages.progress import bar

PROBABILITIES = "probabilities"
JOINED = "joined"
VERSION = 1  # of what `joined` holds
AHEAD = 3  # batches being decoded while one is in the encoder

Item = tuple[str, bytes]  # id, encoded image


@dataclass(frozen=True)
class Job:
    """Everything one extraction needs. Batches are cut at fixed rows, so the worker count never changes a byte."""

    tapped: Tapped
    preprocess: Preprocess
    device: torch.device
    precision: str  # "auto" is bfloat16 on CUDA, float32 elsewhere
    batch_size: int
    shard_images: int
    dtype: str  # "float32" or "float16"
    workers: int  # decoding threads; 0 decodes between the batches
    max_pixels: int
    keep_probabilities: bool
    label: str


def _batches(images: Iterable[Item], size: int) -> Iterator[list[Item]]:
    stream = iter(images)
    while batch := list(islice(stream, size)):
        yield batch


def _decoded(job: Job, images: Iterable[Item]) -> Iterator[Tensor]:
    """Yield uint8 batches [n, c, h, w] in order; `AHEAD` batches are in the making at any time.

    Threads serve here because Pillow lets go of the interpreter's lock while it decodes and resizes.
    """

    def one(name: str, data: bytes) -> NDArray[np.uint8]:
        try:
            return job.preprocess.pixels(decode_image(data, max_pixels=job.max_pixels))
        except Undecodable as error:
            raise InputProblem(
                f"image {name!r} cannot be decoded any more ({error})",
                where=job.label,
                next_step="`transferscope verify`, then ingest the dataset again with `dvc repro --force`",
            ) from None

    def pixels(batch: list[Item]) -> Tensor:
        return torch.from_numpy(np.stack([one(*item) for item in batch]))

    if job.workers == 0:
        yield from map(pixels, _batches(images, job.batch_size))
        return
    with ThreadPoolExecutor(job.workers) as pool:
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            # A batch is split among the workers, so that the first one is ready soon.
            for batch in _batches(images, job.batch_size):
                step = -(-len(batch) // job.workers)
                waiting.append([pool.submit(pixels, batch[start : start + step]) for start in range(0, len(batch), step)])
                if len(waiting) > AHEAD:
                    yield torch.cat([part.result() for part in waiting.popleft()])
            while waiting:
                yield torch.cat([part.result() for part in waiting.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)


def run_encoder(job: Job, batches: Iterable[Tensor]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield, batch by batch, arrays [n, d] by layer (and `probabilities` [n, classes]) in the job's dtype.

    Raises:
        InputProblem: a value is not finite in the job's dtype.
    """
    job.tapped.model.to(job.device)
    running: dict[str, Tensor] | None = None
    for batch in batches:
        launched = _launch(job, batch)
        if running is not None:  # an accelerator computes one batch while the one before is fetched and written
            yield _fetch(job, running)
        running = launched
    if running is not None:
        yield _fetch(job, running)


def _launch(job: Job, batch: Tensor) -> dict[str, Tensor]:
    """Run one batch of uint8 pixels; the tensors returned are on the device, and may still be in the making."""
    if job.device.type == "cuda":
        batch = batch.pin_memory()
    with torch.inference_mode(), autocast(job.device, job.precision):
        kept, logits = job.tapped(job.preprocess.normalise(batch.to(job.device, non_blocking=True)))
        if job.keep_probabilities and logits is not None:
            kept[PROBABILITIES] = logits.float().softmax(dim=1)
        return kept


def _fetch(job: Job, kept: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in kept.items():
        with np.errstate(over="ignore"):  # told below
            dtype = np.float16 if name == PROBABILITIES else np.dtype(job.dtype)
            array = value.float().cpu().numpy().astype(dtype, copy=False)
        if not np.isfinite(array).all():
            raise InputProblem(
                f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite in {array.dtype}",
                where=job.label,
                next_step="set `extract.dtype: float32` or `run.precision: float32`, or check the weights",
            )
        arrays[name] = array
    return arrays


def extract(job: Job, dataset: Dataset, work: Path) -> Path:
    """Return the folder below `work` with one array [n, d] a layer, computing what `work` does not hold yet.

    What is there is checked against its sha256 first: the outputs are links to these files, so an edit of an output
    in place damages them too.
    """
    joined = work / JOINED
    try:
        manifest.read(joined, kind="extraction", version=VERSION, made_by="extract", verify=True)
        return joined
    except InputProblem:
        shutil.rmtree(joined, ignore_errors=True)
    extract_shards(job, dataset, work)
    join_shards(job, len(dataset.rows), work)
    return joined


def extract_shards(job: Job, dataset: Dataset, work: Path) -> None:
    """Write the shards `<first row>/<name>.npy` that `work` does not hold yet, each of `shard_images` rows, atomically."""
    total = len(dataset.rows)
    starts = range(0, total, job.shard_images)
    missing = {start for start in starts if not _shard(work, start).is_dir()}
    done = sum(min(job.shard_images, total - start) for start in starts if start not in missing)
    stream = dataset.images()
    with bar(f"extract {job.label}", total, "images", done=done) as advance:
        for start in starts:
            rows = islice(stream, min(job.shard_images, total - start))
            if start in missing:
                _write_shard(job, rows, _shard(work, start), advance)
            else:
                deque(rows, maxlen=0)  # read past what is done


def _shard(work: Path, start: int) -> Path:
    return work / f"{start:012d}"


def _write_shard(job: Job, rows: Iterable[Item], target: Path, advance: Callable[[int], None]) -> None:
    parts: dict[str, list[NDArray[Any]]] = {}
    for arrays in run_encoder(job, _decoded(job, rows)):
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
        advance(len(next(iter(arrays.values()))))
    with atomic.new_folder(target) as folder:
        for name, arrays_of_name in parts.items():
            np.save(folder / f"{name}.npy", np.concatenate(arrays_of_name), allow_pickle=False)


def join_shards(job: Job, total: int, work: Path) -> None:
    """Join the shards into `work/joined`, one memory-mappable array a name, holding one shard in memory, and drop them."""
    shards = [_shard(work, start) for start in range(0, total, job.shard_images)]
    with atomic.new_folder(work / JOINED) as folder:
        for path in sorted(shards[0].iterdir()):
            first = np.load(path, mmap_mode="r", allow_pickle=False)
            header = {
                "descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (total, *first.shape[1:]),
            }  # fmt: skip
            with (folder / path.name).open("wb") as whole:
                np.lib.format.write_array_header_1_0(whole, header)
                for shard in shards:
                    whole.write(np.load(shard / path.name, allow_pickle=False).data)
        manifest.write(folder, kind="extraction", version=VERSION, inputs={})
    for shard in shards:
        shutil.rmtree(shard)
