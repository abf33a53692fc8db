"""One process for each device of this host, each over its own share of the shards.

The shares are fixed before anything runs, the shards are those of a single process, and each is made by one process alone: so
the bytes are the same, and a later run with any number of devices goes on from what is finished.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from stages import entry
from stages.artifacts.dataset import Dataset
from stages.device import pick_device
from stages.errors import InputProblem, TryAgain
from stages.extraction.job import Job, Rows
from stages.extraction.outcome import Outcome, attempt, settle
from stages.extraction.shards import write_shards
from stages.extraction.timing import Clock
from stages.params import EDIT, Run

RERUN = "the finished shards are kept: run `dvc repro` again, and it goes on from them"
_PATIENCE = 5  # seconds that a process gets to end


class Build(Protocol):
    """Makes the job anew in a process of its own, on a device that it shares its host's cores with `beside` others."""

    def __call__(self, device: str, beside: int) -> Job: ...


def pick_devices(run: Run, wanted: str | list[str], *, here: bool = True) -> list[str]:
    """Return the devices to extract on: those named, or with "auto" every CUDA device where the run uses CUDA, else the one.

    With `here` false those named need not be of this machine, because others compute.

    Raises:
        InputProblem: a device that this machine has not.
    """
    if wanted == "auto":
        device = pick_device(run)
        count = torch.cuda.device_count() if device.type == "cuda" else 1
        return [f"cuda:{number}" for number in range(count)] if count > 1 else [str(device)]
    for name in wanted if here else ():
        device = torch.device(name)
        count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(device.type, 1)
        if device.type != "cpu" and (device.index or 0) >= count:
            raise InputProblem(
                f"there is no device {name!r}: this machine has {count} of its kind",
                where="params.yaml: extract.devices",
                next_step=EDIT,
            )
    return list(wanted)


def split(shards: Sequence[Rows], parts: int) -> list[list[Rows]]:
    """Return `parts` runs of consecutive shards or fewer, none empty, as even as whole shards allow."""
    bounds = [round(part * len(shards) / parts) for part in range(parts + 1)]
    return [list(shards[low:high]) for low, high in pairwise(bounds) if low < high]


def on_devices(
    build: Build, devices: Sequence[str], dataset: str, work: Path, threads: int,
    shards: Sequence[Rows], advance: Callable[[int], None], clock: Clock,
) -> None:  # fmt: skip
    """Write the shards as `write_shards` does, on several devices at once.

    Args:
        build: makes the job; it must be picklable.
        devices: one process each; a name may come more than once.
        dataset: the dataset's name.
        work: the folder that gets one folder a shard.
        threads: of torch and BLAS in each process.
        shards: those that are missing.
        advance: called with the number of images that were written.
        clock: the times of all processes are added to it.

    Raises:
        Problem: what one of the processes ended with; the others are ended then.
        TryAgain: a process died.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    shares = split(shards, len(devices))
    places: dict[Connection, tuple[str, Any]] = {}
    ended: list[Outcome] = []
    try:
        for number, share in enumerate(shares):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (theirs, build, devices[number], len(shares), threads, dataset, work, share)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            places[ours] = (f"{devices[number]} (process {process.pid})", process)
        while len(ended) < len(shares):
            for ready in wait([ours for ours in places if not ours.closed]):
                assert isinstance(ready, Connection)
                place, process = places[ready]
                try:
                    message = ready.recv()
                except (EOFError, OSError):
                    process.join(_PATIENCE)
                    what = f"the process on {place} died with exit code {process.exitcode}"
                    raise TryAgain(what, where=f"extract {dataset}", next_step=RERUN) from None
                if isinstance(message, Outcome):
                    settle(message, clock, place)
                    ended.append(message)
                    ready.close()
                else:
                    advance(message)
    finally:
        for _, process in places.values():
            process.terminate() if len(ended) < len(shares) else process.join(_PATIENCE)
        for _, process in places.values():
            process.join(_PATIENCE)
            process.kill()


def _work(
    parent: Connection, build: Build, device: str, beside: int, threads: int, dataset: str, work: Path, shards: list[Rows]
) -> None:
    """Write one share and tell the parent: numbers of images as they are written, and the outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends this process then
    entry.die_with_parent()
    entry.limit_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # else pinned memory would make a context on the first device too

    def advance(images: int) -> None:
        parent.send(images)

    def write(clock: Clock) -> None:
        write_shards(build(device, beside), Dataset.open(dataset), work, shards, advance, clock)

    with suppress(BrokenPipeError):  # the parent has given up
        parent.send(attempt(write))
