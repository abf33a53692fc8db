"""From encoded images to batches of pixels, decoded in threads ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.datasets.decoding import Undecodable, decode_image
from stages.errors import InputProblem
from stages.extraction.job import Item, Job

AHEAD = 3  # batches being decoded while one is in the encoder


def decoded(job: Job, batches: Iterable[list[Item]]) -> Iterator[Tensor]:
    """Yield uint8 batches [n, c, h, w] in order; `AHEAD` batches are in the making at any time.

    Threads serve here because Pillow lets go of the interpreter's lock while it decodes and resizes.

    Raises:
        InputProblem: an image cannot be decoded.
    """
    if job.workers == 0:
        for batch in batches:
            pixels = _room(job, len(batch))
            _fill(job, batch, pixels)
            yield torch.from_numpy(pixels)
        return
    with ThreadPoolExecutor(job.workers) as pool:
        waiting: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()

        def first() -> Tensor:
            pixels, parts = waiting.popleft()
            for part in parts:
                part.result()
            return torch.from_numpy(pixels)

        try:
            # A batch is split among the workers, so that the first one is ready soon.
            for batch in batches:
                pixels, step = _room(job, len(batch)), -(-len(batch) // job.workers)
                cuts = [slice(start, start + step) for start in range(0, len(batch), step)]
                waiting.append((pixels, [pool.submit(_fill, job, batch[cut], pixels[cut]) for cut in cuts]))
                if len(waiting) > AHEAD:
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)


def _room(job: Job, n: int) -> NDArray[np.uint8]:
    return np.empty((n, *job.preprocess.input_size), dtype=np.uint8)


def _fill(job: Job, batch: list[Item], pixels: NDArray[np.uint8]) -> None:
    for row, (name, data) in enumerate(batch):
        try:
            pixels[row] = job.preprocess.pixels(decode_image(data, max_pixels=job.max_pixels))
        except Undecodable as error:
            raise InputProblem(
                f"image {name!r} cannot be decoded any more ({error})",
                where=job.label,
                next_step="`transferscope verify`, then ingest the dataset again with `dvc repro --force`",
            ) from None
