"""An image as an encoder wants it: timm's own evaluation transform, kept as bytes until the batch is on its device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

LUMA = (19595, 38470, 7471)  # of 2**16, of red, green and blue: Pillow's integers for ITU-R 601-2


class Config(Protocol):
    """What a card or a data config says of its images."""

    @property
    def input_size(self) -> tuple[int, int, int]: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def interpolation(self) -> str: ...
    @property
    def crop_pct(self) -> float: ...


class Preprocess:
    """Resize and crop on the image, normalise on the batch: bytes are a quarter of the memory and of the transfer."""

    def __init__(self, config: Config) -> None:
        self.input_size = config.input_size
        self.channels = config.input_size[0]
        self.interpolation = config.interpolation
        whole: Any = create_transform(
            config.input_size, is_training=False, interpolation=config.interpolation, crop_pct=config.crop_pct,
            mean=config.mean, std=config.std,
        )  # fmt: skip
        self._geometric, rest = whole.transforms[:-2], whole.transforms[-2:]
        if not isinstance(rest[0], transforms.ToTensor) or not isinstance(rest[1], transforms.Normalize):
            raise TypeError(f"timm's evaluation transform has another form than resize, crop, tensor, normalise: {whole}")
        self._mean = torch.tensor(config.mean, dtype=torch.float32).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(config.std, dtype=torch.float32).view(1, -1, 1, 1) * 255)

    @classmethod
    def of(cls, config: Config) -> Preprocess:
        """Return the preprocessing of a card or data config."""
        return cls(config)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return uint8 pixels [c, h, w] of a decoded image, in the encoder's number of channels."""
        image = image.convert("L" if self.channels == 1 else "RGB")
        for step in self._geometric:
            image = step(image)
        array = np.array(image, dtype=np.uint8)  # a copy: Pillow's own memory is read-only, which torch warns of
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

    @property
    def takes_tensors(self) -> bool:
        """Say whether `tensor_pixels` comes near `pixels`: torchvision's nearest takes other rows than Pillow's."""
        return self.interpolation != "nearest" and self.channels in (1, 3)

    def tensor_pixels(self, image: Tensor) -> Tensor:
        """Return uint8 pixels [c, h, w] of a decoded image [1 or 3, h, w], on its device.

        Sizes and crop are those of `pixels`. As in Pillow, the width is resized first and then the height, each to whole grey
        levels: in one pass bicubic overshoots, which Pillow cuts off between the two, differed by up to 15 levels at edges.
        """
        if self.channels < len(image):
            image = _grey(image)
        for step in self._geometric:
            if isinstance(step, transforms.CenterCrop):
                image = step(image)
            else:  # a resize; on "meta" it computes the size alone
                height, width = step(image.to("meta")).shape[-2:]
                for size in ([image.shape[-2], width], [height, width]):
                    resized = functional.resize(image.float(), size, step.interpolation, antialias=True)
                    image = (resized + 0.5).floor().clamp(0, 255).to(torch.uint8)  # halves go up, as in Pillow
        return image.expand(self.channels, -1, -1)

    def normalise(self, batch: Tensor) -> Tensor:
        """Return the uint8 batch [n, c, h, w] as normalised float32 on the same device."""
        mean, scale = self._mean.to(batch.device), self._scale.to(batch.device)
        return batch.to(torch.float32, copy=True).sub_(mean).mul_(scale)


def _grey(image: Tensor) -> Tensor:
    """Return the uint8 luma [1, h, w] of colours [3, h, w], by Pillow's own arithmetic."""
    red, green, blue = image.to(torch.int32)
    luma: Tensor = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 2**15) >> 16
    return luma.to(torch.uint8)[None]
