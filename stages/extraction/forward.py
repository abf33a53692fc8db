"""Batches of pixels through the encoder, each batch in flight while the one before is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.device import autocast
from stages.errors import InputProblem
from stages.extraction.job import PROBABILITIES, Arrays, Job
from stages.extraction.timing import Clock


def run_encoder(job: Job, batches: Iterable[Tensor], clock: Clock | None = None) -> Iterator[Arrays]:
    """Yield, batch by batch, arrays [n, d] by layer (and `probabilities` [n, classes]) in the job's dtype.

    Raises:
        InputProblem: a value is not finite in the job's dtype.
    """
    clock = clock or Clock()
    job.tapped.model.to(job.device)
    running: dict[str, Tensor] | None = None
    for batch in clock.waiting("decode", batches):
        launched = _launch(job, batch, clock)
        if running is not None:  # an accelerator computes one batch while the one before is fetched and written
            yield _fetch(job, running, clock)
        running = launched
    if running is not None:
        yield _fetch(job, running, clock)


def _launch(job: Job, batch: Tensor, clock: Clock) -> dict[str, Tensor]:
    """Run one batch of uint8 pixels; the tensors returned are on the device, and may still be in the making."""
    with clock.step("transfer"):
        if job.device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(job.device, non_blocking=True)
    with clock.step("forward"), torch.inference_mode(), autocast(job.device, job.precision):
        kept, logits = job.tapped(job.preprocess.normalise(batch))
        if job.keep_probabilities and logits is not None:
            kept[PROBABILITIES] = logits.float().softmax(dim=1)
        return kept


def _fetch(job: Job, kept: dict[str, Tensor], clock: Clock) -> Arrays:
    with clock.step("forward"):
        fetched = {name: value.float().cpu().numpy() for name, value in kept.items()}
    with clock.step("write"):
        return {name: _narrowed(job, name, value) for name, value in fetched.items()}


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
