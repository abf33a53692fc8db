"""The loop behind extract: decode in threads, run the encoder, write shards from which a killed run goes on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import atomic
from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import decode_image
from stages.encoders import Preprocess, Tapped
from stages.errors import InputProblem
from stages.progress import bar
from stages.training import autocast

PROBABILITIES = "probabilities"
AHEAD = 3  # batches being decoded while one is in the encoder


@dataclass(frozen=True)
class Job:
    """Everything one extraction needs. Batches are cut at fixed rows, so the worker count never changes a byte."""

    tapped: Tapped
    preprocess: Preprocess
    device: torch.device
    precision: str
    batch_size: int
    shard_images: int
    dtype: str  # "float32" or "float16"
    workers: int  # decoding threads; 0 decodes between the batches
    max_pixels: int
    keep_probabilities: bool
    label: str


def _batches(images: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[bytes]]:
    stream = iter(images)
    while batch := [data for _, data in islice(stream, size)]:
        yield batch


def _decoded(job: Job, images: Iterable[tuple[str, bytes]]) -> Iterator[Tensor]:
    """Yield uint8 batches [n, c, h, w] in order; `AHEAD` batches are in the making at any time.

    Threads serve here because Pillow lets go of the interpreter's lock while it decodes and resizes.
    """

    def pixels(batch: list[bytes]) -> Tensor:
        return torch.from_numpy(
            np.stack([job.preprocess.pixels(decode_image(data, max_pixels=job.max_pixels)) for data in batch])
        )

    if job.workers == 0:
        yield from map(pixels, _batches(images, job.batch_size))
        return
    with ThreadPoolExecutor(job.workers) as pool:
        waiting: deque[list[Future[Tensor]]] = deque()
        # A batch is split among the workers, so that the first one is ready soon.
        for batch in _batches(images, job.batch_size):
            step = -(-len(batch) // job.workers)
            waiting.append([pool.submit(pixels, batch[start : start + step]) for start in range(0, len(batch), step)])
            if len(waiting) > AHEAD:
                yield torch.cat([part.result() for part in waiting.popleft()])
        while waiting:
            yield torch.cat([part.result() for part in waiting.popleft()])


def run_encoder(job: Job, batches: Iterable[Tensor]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield, batch by batch, arrays [n, d] by layer (and `probabilities` [n, classes]) in the job's precision."""
    job.tapped.model.to(job.device)
    for batch in batches:
        if job.device.type == "cuda":
            batch = batch.pin_memory()
        with torch.inference_mode(), autocast(job.device, job.precision):
            kept, logits = job.tapped(job.preprocess.normalise(batch.to(job.device, non_blocking=True)))
        arrays = {layer: value.float().cpu().numpy().astype(job.dtype, copy=False) for layer, value in kept.items()}
        if job.keep_probabilities and logits is not None:
            arrays[PROBABILITIES] = logits.float().softmax(dim=1).cpu().numpy().astype(np.float16)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InputProblem(
                    f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite in {job.dtype}",
                    where=job.label,
                    next_step="set `extract.dtype: float32` or `run.precision: float32`, or check the weights",
                )
        yield arrays


def extract_shards(job: Job, dataset: Dataset, work: Path) -> None:
    """Write the shards `<first row>/<name>.npy` that `work` does not hold yet, each of `shard_images` rows, atomically."""
    total = len(dataset.rows)
    starts = range(0, total, job.shard_images)
    missing = {start for start in starts if not (work / f"{start:012d}").is_dir()}
    done = sum(min(job.shard_images, total - start) for start in starts if start not in missing)
    stream = dataset.images()
    with bar(f"extract {job.label}", total, "images", done=done) as advance:
        for start in starts:
            rows = islice(stream, min(job.shard_images, total - start))
            if start not in missing:
                deque(rows, maxlen=0)  # read past what is done
                continue
            parts: dict[str, list[NDArray[Any]]] = {}
            for arrays in run_encoder(job, _decoded(job, rows)):
                for name, array in arrays.items():
                    parts.setdefault(name, []).append(array)
                advance(len(next(iter(arrays.values()))))
            with atomic.new_folder(work / f"{start:012d}") as folder:
                for name, arrays_of_name in parts.items():
                    np.save(folder / f"{name}.npy", np.concatenate(arrays_of_name), allow_pickle=False)


def join_shards(work: Path, job: Job, total: int) -> None:
    """Join the shards into one memory-mappable array a name, holding one shard in memory, and drop them."""
    shards = [work / f"{start:012d}" for start in range(0, total, job.shard_images)]
    with atomic.new_folder(work / "joined") as folder:
        for path in sorted(shards[0].iterdir()):
            first = np.load(path, mmap_mode="r", allow_pickle=False)
            whole = np.lib.format.open_memmap(folder / path.name, mode="w+", dtype=first.dtype, shape=(total, *first.shape[1:]))
            for shard, start in zip(shards, range(0, total, job.shard_images), strict=True):
                part = np.load(shard / path.name, mmap_mode="r", allow_pickle=False)
                whole[start : start + len(part)] = part
            whole.flush()
            del whole
    for shard in shards:
        for path in shard.iterdir():
            os.unlink(path)
        shard.rmdir()
