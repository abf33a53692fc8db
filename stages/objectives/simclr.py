"""SimCLR (Chen et al., arXiv 2002.05709): two random views of an image attract, all other images of the batch repel.

No label is looked at. The loss is NT-Xent on the outputs of a projection head of two layers, which is dropped after
training; the encoder keeps no classification head. Views are made as in the paper's setting for small images (appendix
B.9): random crop and resize, mirror, colour distortion, no blur; hue is left alone. The optimiser is the one of all
trainings here, AdamW, in place of LARS, which is for batches of thousands. A step costs two forward and backward passes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stages import seeds
from stages.objectives.contract import Measured, Objective
from stages.params import Section
from stages.training import Loss, Normalise, Normalising

PROJECTION = 128  # outputs of the projection head, as in the paper
RATIO = 4 / 3  # of the sides of a crop at most, as in the paper
GREY_CHANCE = 0.2  # of a colour image to lose its colour, as in the paper
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class Options(Section):
    """Temperature of the loss, and how far the two views may lie apart."""

    temperature: float = Field(default=0.5, gt=0)  # the paper's best for small images
    smallest_crop: float = Field(default=0.2, gt=0, le=1)  # share of the image's area
    mirror: bool = True  # false where the mirror image is another class, as it is for characters
    distortion: float = Field(default=0.4, ge=0, lt=1)  # of brightness, contrast and saturation: factors 1 - d .. 1 + d


class Contrast(nn.Module):
    """An encoder without a head, and the projection head behind it."""

    def __init__(self, encoder: nn.Module, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        built: Any = encoder  # timm says the width of its outputs in attributes that torch does not know
        width = int(getattr(built, "head_hidden_size", 0) or built.num_features)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seeds.integer_seed(seed, "projection"))
            self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION))

    def forward(self, images: Tensor) -> Tensor:
        """Return projections [n, 128] of normalised images [n, c, h, w]."""
        projected: Tensor = self.projection(self.encoder(images))
        return projected


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy (equation 1), the mean over both views of all images.

    Args:
        first: [n, d] projections of one view of each image, n >= 1, in any scale.
        second: [n, d] projections of the other view.
        temperature: > 0.
    """
    n = len(first)
    both = functional.normalize(torch.cat([first, second]), dim=1)  # (2n, d)
    likeness = both @ both.T / temperature  # (2n, 2n)
    itself = torch.eye(2 * n, dtype=torch.bool, device=both.device)
    partner = torch.arange(2 * n, device=both.device).roll(n)
    return functional.cross_entropy(likeness.masked_fill(itself, -math.inf), partner)


def view(pixels: Tensor, options: Options, generator: torch.Generator) -> Tensor:
    """Return one random view, float in 0 .. 255, of each image of a uint8 batch [n, c, h, w]."""
    n, channels, device = len(pixels), pixels.shape[1], pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=device)

    area, ratio = uniform(options.smallest_crop, 1.0), torch.exp(uniform(-math.log(RATIO), math.log(RATIO)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # shares of the image's sides
    side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if options.mirror else torch.ones(n, device=device)
    window = torch.zeros(n, 2, 3, device=device)
    window[:, 0, 0], window[:, 1, 1] = width * side, height
    window[:, 0, 2], window[:, 1, 2] = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    grid = functional.affine_grid(window, list(pixels.shape), align_corners=False)
    images = functional.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)

    def column(factor: Tensor) -> Tensor:
        return factor.view(n, 1, 1, 1)

    low, high = 1 - options.distortion, 1 + options.distortion
    images = (images * column(uniform(low, high))).clamp(0, 255)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * column(uniform(low, high))).clamp(0, 255)
    if channels == 3:
        grey = torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMINANCE)).unsqueeze(1)
        saturation = uniform(low, high) * (uniform(0, 1) >= GREY_CHANCE)
        images = (grey + (images - grey) * column(saturation)).clamp(0, 255)
    return images


def contrastive_loss(options: Options) -> Loss:
    """Return the loss: NT-Xent between two views of the batch."""

    def loss(model: nn.Module, pixels: Tensor, _labels: Tensor, normalise: Normalise, generator: torch.Generator) -> Tensor:
        views = [normalise(view(pixels, options, generator)) for _ in range(2)]
        first, second = model(torch.cat(views)).float().chunk(2)  # one pass: batch norm sees both views together
        return nt_xent(first, second, options.temperature)

    return loss


def nothing(
    _options: Options,
    _model: nn.Module,
    _pixels: Tensor,
    _labels: Tensor,
    _preprocess: Normalising,
    _device: torch.device,
    _seed: int,
) -> Measured:
    """Return nothing: without a head there is no accuracy."""
    return {}


OBJECTIVE = Objective(options=Options, loss=contrastive_loss, has_head=False, wrap=Contrast, measure=nothing)
