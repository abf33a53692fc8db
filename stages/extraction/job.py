"""What one extraction is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from stages.encoders import Preprocess, Tapped
from stages.extraction.compiled import Compiled
from stages.extraction.timing import Gain

PROBABILITIES = "probabilities"

Rows = tuple[int, int]  # a shard: its first row, and the row behind its last
Item = tuple[str, bytes]  # id, encoded image
Arrays = dict[str, NDArray[Any]]  # by name, each [n, ...]


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
    channels_last: bool = False
    decode: str = "pillow"  # or "device": JPEG by torchvision, on the device where it is CUDA
    kept_pixels: Path | None = None  # folder of decoded pixels, shared by all encoders that want the same; None keeps none

    @property
    def gain(self) -> Gain | None:
        """Return what compiling has cost and saves, None where the model is not compiled, or not yet."""
        return self.tapped.gain if isinstance(self.tapped, Compiled) else None
