"""Where and how precisely a model runs: the device that params.yaml asks for, and the number format on it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from stages.errors import InputProblem
from stages.params import Run


def pick_device(run: Run) -> torch.device:
    """Return the device that params.yaml asks for; "auto" is CUDA, then MPS, then the CPU.

    Raises:
        InputProblem: the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name, found in there.items() if found) if run.device == "auto" else run.device
    if not there[chosen]:
        raise InputProblem(
            f"torch finds no {chosen} device", where="params.yaml: run.device", next_step="set run.device to auto or cpu"
        )
    return torch.device(chosen)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a forward pass runs; "auto" is bfloat16 on CUDA, float32 elsewhere."""
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()
