"""Where the time of an extraction goes, as the thread that runs the encoder sees it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# What the encoder waits for, or does itself: pixels that are not decoded yet; batches on their way to the device; the
# forward pass with its results on their way back; a writer that is behind.
STEPS = ("decode", "transfer", "forward", "write")


@dataclass(frozen=True)
class Gain:
    """What compiling a model has cost, and the seconds of one warm batch before and after it."""

    seconds: float
    eager: float
    compiled: float
    images: int  # of the batch

    @property
    def pays_from(self) -> int | None:
        """Return the number of images whose saved time makes up for the compilation, None where nothing is saved."""
        saved = self.eager - self.compiled
        return math.ceil(self.seconds / saved * self.images) if saved > 0 else None

    def told(self) -> str:
        """Return the cost, the saving and the number of images from which it pays as text."""
        if self.pays_from is None:
            return f"compiling took {self.seconds:.1f} s and saves nothing"
        saved = 1000 * (self.eager - self.compiled) / self.images
        return f"compiling took {self.seconds:.1f} s and saves {saved:.2f} ms an image: it pays from {self.pays_from:,} images"

    def facts(self) -> dict[str, float]:
        """Return the seconds of the compilation and the milliseconds an image before and after it."""
        ms = {"eager_ms": self.eager, "compiled_ms": self.compiled}
        each = {name: round(1000 * seconds / self.images, 4) for name, seconds in ms.items()}
        return {"compile_seconds": round(self.seconds, 3), **each}


class Clock:
    """Seconds by step. Steps run beside each other; what counts is the time that the encoder's thread spends in each."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STEPS, 0.0)
        self.images = 0
        self.gain: Gain | None = None  # of a model that was compiled; in several processes that of one

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the block to a step of `STEPS`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def waiting(self, name: str, source: Iterable[T]) -> Iterator[T]:
        """Yield what `source` yields, and count the waiting for each item to a step."""
        iterator = iter(source)
        while True:
            with self.step(name):
                item = next(iterator, self)
            if item is self:
                return
            yield item  # type: ignore[misc]  # the clock itself is the end mark, and no item

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each step in the time of all."""
        total = sum(self.seconds.values()) or 1.0
        return {step: seconds / total for step, seconds in self.seconds.items()}

    def facts(self) -> dict[str, float]:
        """Return images, seconds of all steps, images a second and the share of each step."""
        seconds = sum(self.seconds.values()) or 1e-9
        rounded = {"images": self.images, "seconds": round(seconds, 3), "images_per_second": round(self.images / seconds, 1)}
        return rounded | {step: round(share, 4) for step, share in self.shares.items()}

    def told(self) -> str:
        """Return the bottleneck and the shares as text."""
        shares = self.shares
        parts = ", ".join(f"{step} {share:.0%}" for step, share in shares.items())
        return f"bound by {max(shares, key=shares.__getitem__)} ({parts})"
