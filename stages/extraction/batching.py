"""How many images go through the encoder at once: chosen from the model's own sizes, so that a rerun chooses the same."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.encoders import Tapped

# The largest activation of a batch. On a CPU beyond a few tens of MiB it leaves the caches and the rate falls; an
# accelerator keeps several such arrays at once, and wants large ones.
CPU_BYTES = 32 * 2**20
ACCELERATOR_SHARE = 1 / 64  # of its memory
CPU_LIMITS, ACCELERATOR_LIMITS = (8, 256), (16, 1024)
FLOAT = 4


def fitting_batch(activation_bytes: int, budget: int, limits: tuple[int, int]) -> int:
    """Return the largest power of two of images whose largest activation stays within `budget` bytes, within `limits`."""
    images = max(1, budget // max(1, activation_bytes))
    return min(max(1 << (images.bit_length() - 1), limits[0]), limits[1])


def chosen_batch(tapped: Tapped, input_size: tuple[int, int, int], device: torch.device) -> int:
    """Return the batch size for a model on a device; measured with one image, in float32."""
    activation = largest_activation(tapped, torch.zeros(1, *input_size))
    if device.type == "cpu":
        return fitting_batch(activation, CPU_BYTES, CPU_LIMITS)
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2**34
    return fitting_batch(activation, int(memory * ACCELERATOR_SHARE), ACCELERATOR_LIMITS)


def largest_activation(tapped: Tapped, image: Tensor) -> int:
    """Return the bytes of the largest output of any module for one image [1, c, h, w], as float32."""
    sizes = [image.numel() * FLOAT]

    def keep(_module: object, _inputs: object, output: object) -> None:
        sizes.extend(part.numel() * FLOAT for part in (output if isinstance(output, tuple | list) else [output])
                     if isinstance(part, Tensor))  # fmt: skip

    hooks = [module.register_forward_hook(keep) for module in tapped.model.modules()]
    try:
        tapped(image.to(next(tapped.model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)
