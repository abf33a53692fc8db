"""Section `run`: what holds for all stages."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from stages.params.section import Count, Section


class Run(Section):
    """What holds for the whole run."""

    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    threads: Count = (
        1  # of torch and BLAS, in each stage; fixed here because the order of sums, and so the last bit, depends on it
    )

    @property
    def decoding_workers(self) -> int:
        """Return how many threads decode images, "auto" being one for each core of this process; no output depends on it."""
        if self.workers != "auto":
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
