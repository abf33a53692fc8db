"""From encoded images to batches of pixels, decoded in threads ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import atomic
from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import Undecodable, decode_image
from stages.errors import InputProblem
from stages.extraction.flow import ahead
from stages.extraction.job import Item, Job, Rows
from stages.extraction.on_device import decoding_device, device_pixels

READ_AHEAD = 2  # batches of encoded images
AHEAD = 3  # batches being decoded while one is in the encoder


def batches_of(rows: Rows, size: int) -> list[Rows]:
    """Return the first and the end row of each batch of a shard."""
    return [(start, min(start + size, rows[1])) for start in range(*rows, size)]


def pixels(job: Job, dataset: Dataset, shards: Sequence[Rows]) -> Iterator[Tensor]:
    """Yield the uint8 batches [n, c, h, w] of some shards, from `job.kept_pixels` where it holds them, else decoded.

    What is decoded is kept there, a shard at a time, so that the next encoder of the same input decodes nothing.
    """
    if job.kept_pixels is None:
        yield from _read_and_decoded(job, dataset, shards)
        return
    for rows in shards:
        path = job.kept_pixels / f"{rows[0]:012d}-{rows[1]:012d}.npy"
        if not path.is_file():
            _keep(path, rows, job, _read_and_decoded(job, dataset, [rows]))
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        for start, stop in batches_of(rows, job.batch_size):
            yield torch.from_numpy(np.array(mapped[start - rows[0] : stop - rows[0]]))


def _read_and_decoded(job: Job, dataset: Dataset, shards: Sequence[Rows]) -> Iterator[Tensor]:
    images = dataset.images_between(shards)
    batches = (list(islice(images, stop - start)) for rows in shards for start, stop in batches_of(rows, job.batch_size))
    return decoded(job, ahead(batches, READ_AHEAD))


def _keep(path: Path, rows: Rows, job: Job, batches: Iterator[Tensor]) -> None:
    with atomic.new_file(path) as scratch:
        shape = (rows[1] - rows[0], *job.preprocess.input_size)
        whole = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.uint8, shape=shape)
        for (start, stop), batch in zip(batches_of(rows, job.batch_size), batches, strict=True):
            whole[start - rows[0] : stop - rows[0]] = batch.cpu().numpy()
        whole.flush()


def decoded(job: Job, batches: Iterable[list[Item]]) -> Iterator[Tensor]:
    """Yield uint8 batches [n, c, h, w] in order; `AHEAD` batches are in the making at any time.

    They lie in main memory, or where the job decodes on a GPU, there.

    Threads serve here because Pillow lets go of the interpreter's lock while it decodes and resizes.

    Raises:
        InputProblem: an image cannot be decoded.
    """
    if job.workers == 0:
        for batch in batches:
            pixels = _room(job, len(batch))
            _fill(job, batch, pixels)
            yield pixels
        return
    with ThreadPoolExecutor(job.workers) as pool:
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()

        def first() -> Tensor:
            pixels, parts = waiting.popleft()
            for part in parts:
                part.result()
            return pixels

        try:
            # A batch is split among the workers, so that the first one is ready soon; nvJPEG splits it by itself.
            for batch in batches:
                pixels = _room(job, len(batch))
                step = -(-len(batch) // (1 if pixels.is_cuda else job.workers))
                cuts = [slice(start, start + step) for start in range(0, len(batch), step)]
                waiting.append((pixels, [pool.submit(_fill, job, batch[cut], pixels[cut]) for cut in cuts]))
                if len(waiting) > AHEAD:
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)


def _room(job: Job, n: int) -> Tensor:
    device = decoding_device(job.device) if job.decode == "device" else None
    return torch.empty((n, *job.preprocess.input_size), dtype=torch.uint8, device=device)


def _fill(job: Job, batch: list[Item], pixels: Tensor) -> None:
    found: list[Tensor | None] = [None] * len(batch)
    if job.decode == "device":
        found = device_pixels([data for _, data in batch], job.preprocess, pixels.device, job.max_pixels)
    for row, ((name, data), made) in enumerate(zip(batch, found, strict=True)):
        pixels[row] = torch.from_numpy(_with_pillow(job, name, data)) if made is None else made


def _with_pillow(job: Job, name: str, data: bytes) -> NDArray[np.uint8]:
    try:
        return job.preprocess.pixels(decode_image(data, max_pixels=job.max_pixels))
    except Undecodable as error:
        raise InputProblem(
            f"image {name!r} cannot be decoded any more ({error})",
            where=job.label,
            next_step="`transferscope verify`, then ingest the dataset again with `dvc repro --force`",
        ) from None
