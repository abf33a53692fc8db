"""Batches of pixels through the encoder, each batch in flight while the one before is fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.device import autocast
from stages.errors import InputProblem, out_of_memory
from stages.extraction.job import PROBABILITIES, Arrays, Job
from stages.extraction.timing import Clock


def run_encoder(job: Job, batches: Iterable[Tensor], clock: Clock | None = None) -> Iterator[Arrays]:
    """Yield, batch by batch, arrays [n, d] by layer (and `probabilities` [n, classes]) in the job's dtype.

    The model always sees `batch_size` images, a smaller batch with black ones behind it: kernels are chosen by the size of
    a batch, and with one size an image's features rarely depend on its place or on those beside it. A batch that does not
    fit into memory is halved, with a message, and so are those behind it.

    Raises:
        InputProblem: a value is not finite in the job's dtype.
    """
    clock = clock or Clock()
    job.tapped.model.to(job.device).to(memory_format=_layout(job))
    limit = job.batch_size
    running: list[dict[str, Tensor]] = []
    for batch in clock.waiting("decode", batches):
        launched, limit = _launch_within(job, batch, limit, clock)
        clock.gain = job.gain
        if running:  # an accelerator computes one batch while the one before is fetched and written
            yield _fetch(job, running, clock)
        running = launched
    if running:
        yield _fetch(job, running, clock)


def _layout(job: Job) -> torch.memory_format:
    return torch.channels_last if job.channels_last else torch.contiguous_format


def _launch_within(job: Job, batch: Tensor, limit: int, clock: Clock) -> tuple[list[dict[str, Tensor]], int]:
    """Run one batch in parts of `limit` images, halved as long as the memory is too small; return the limit that fits."""
    while True:
        try:
            return [_launch(job, batch[start : start + limit], limit, clock) for start in range(0, len(batch), limit)], limit
        except Exception as error:
            if not out_of_memory(error) or limit == 1:
                raise
            limit //= 2
        # Outside the handler, where the tensors of the failed pass are free.
        print(f"{job.label}: out of memory, going on with {limit} images at once", file=sys.stderr)
        if job.device.type == "cuda":
            torch.cuda.empty_cache()


def _launch(job: Job, batch: Tensor, size: int, clock: Clock) -> dict[str, Tensor]:
    """Run one batch of uint8 pixels among `size` images; what is returned is on the device, and may be in the making."""
    n = len(batch)
    with clock.step("transfer"):
        if n < size:
            batch = torch.cat([batch, batch.new_zeros(size - n, *batch.shape[1:])])
        if job.device.type == "cuda" and not batch.is_cuda:
            batch = batch.pin_memory()
        batch = batch.to(job.device, non_blocking=True)
    with clock.step("forward"), torch.inference_mode(), autocast(job.device, job.precision):
        kept, logits = job.tapped(job.preprocess.normalise(batch).contiguous(memory_format=_layout(job)))
        if job.keep_probabilities and logits is not None:
            kept[PROBABILITIES] = logits.float().softmax(dim=1)
        return {name: value[:n] for name, value in kept.items()}


def _fetch(job: Job, parts: list[dict[str, Tensor]], clock: Clock) -> Arrays:
    with clock.step("forward"):
        fetched = [{name: value.float().cpu().numpy() for name, value in part.items()} for part in parts]
    with clock.step("write"):
        whole = fetched[0] if len(fetched) == 1 else {
            name: np.concatenate([part[name] for part in fetched]) for name in fetched[0]
        }  # fmt: skip
        return {name: _narrowed(job, name, value) for name, value in whole.items()}


def _narrowed(job: Job, name: str, value: NDArray[np.float32]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # told below
        array = value.astype(np.float16 if name == PROBABILITIES else np.dtype(job.dtype), copy=False)
    if not np.isfinite(array).all():
        raise InputProblem(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite in {array.dtype}",
            where=job.label,
            next_step="set `extract.dtype: float32` or `run.precision: float32`, or check the weights",
        )
    return array
