"""JPEG decoded, resized and cropped on the device: nvJPEG on CUDA, libjpeg in torchvision on a CPU.

What is not such a JPEG stays with Pillow (see `plain_jpeg`).

Measured against Pillow's path, with torchvision on a CPU, bicubic and bilinear, at 64 to 299 pixels: over 400 photographs of
hand signs 1 grey level at most and .0001 on average; over made JPEGs of up to 1.5 megapixels, noise among them, 1 level at
most and .04 on average. An image about twice as tall as wide or taller is another matter: Pillow 13 resizes its height
first, which is not followed here, and of noise single pixels then differ by up to 20 levels, .35 on average. nvJPEG has an
inverse transform and a chroma upsampling of its own, whose differences come on top and are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from stages.datasets.decoding import plain_jpeg
from stages.encoders import Preprocess
from stages.errors import InputProblem

AT_ONCE = 2**26  # pixels decoded at once: 192 MiB in colour, in each decoding thread


def decoding_device(device: torch.device) -> torch.device:
    """Return where JPEGs for a device are decoded: there on CUDA, else on the CPU."""
    return device if device.type == "cuda" else torch.device("cpu")


def device_pixels(
    images: Sequence[bytes], preprocess: Preprocess, device: torch.device, max_pixels: int
) -> list[Tensor | None]:
    """Return the uint8 pixels [c, h, w] of each image on the device, None for those that are left to Pillow.

    Args:
        images: encoded.
        preprocess: what the encoder wants.
        device: CUDA or the CPU.
        max_pixels: of an image; a larger one is left to Pillow's path, which refuses it.

    Raises:
        InputProblem: torchvision was built without what decodes on a GPU.
    """
    found: list[Tensor | None] = [None] * len(images)
    if not preprocess.takes_tensors:
        return found
    heads = [plain_jpeg(data, max_pixels=max_pixels) for data in images]
    for mode in (ImageReadMode.GRAY, ImageReadMode.RGB):
        wanted = [
            (row, head.pixels)
            for row, head in enumerate(heads)
            if head is not None and head.grey == (mode is ImageReadMode.GRAY)
        ]
        for rows in _groups(wanted):
            for row, decoded in zip(rows, _decoded([images[row] for row in rows], mode, device), strict=True):
                found[row] = None if decoded is None else preprocess.tensor_pixels(decoded)
    return found


def _groups(sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield runs of rows whose pixels are `AT_ONCE` together, or one larger image."""
    rows: list[int] = []
    total = 0
    for row, pixels in sizes:
        if rows and total + pixels > AT_ONCE:
            yield rows
            rows, total = [], 0
        rows.append(row)
        total += pixels
    if rows:
        yield rows


def _decoded(images: list[bytes], mode: ImageReadMode, device: torch.device) -> list[Tensor | None]:
    """Return decoded images [1 or 3, h, w], None for those that torchvision cannot decode, or not in the memory it has."""
    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in images]  # bytes themselves are read-only
    try:
        return list(decode_jpeg(encoded, mode=mode, device=device))
    except RuntimeError as error:
        if "nvJPEG support" in str(error):
            what = "this torchvision cannot decode on a GPU: it was built without nvJPEG"
            raise InputProblem(what, where="params.yaml: extract.decode", next_step="set it to pillow") from None
        if len(images) == 1:
            return [None]
    return [_decoded([data], mode, device)[0] for data in images]  # damaged, or all are too many at once
