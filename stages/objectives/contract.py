"""What an objective of pre-training is: options, a loss of a batch, what it trains, and what its weights can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.params import Section
from stages.training import Loss, Normalising, predict

Measured = dict[str, float | None]  # a name and a share, 0 to 1; None where there is nothing to measure on


def as_it_is(model: nn.Module, _seed: int) -> nn.Module:
    """Return the model itself: its own outputs are all that the loss needs."""
    return model


def classified(
    _options: Section,
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    preprocess: Normalising,
    device: torch.device,
    _seed: int,
) -> Measured:
    """Return the accuracy of the model's head on held-out images."""
    if not len(pixels):
        return {"accuracy": None}
    right = predict(model, pixels, preprocess, device).argmax(dim=1) == labels
    return {"accuracy": float(right.double().mean())}


Measure = Callable[[Any, nn.Module, Tensor, Tensor, Normalising, torch.device, int], Measured]


@dataclass(frozen=True)
class Objective:
    """One way to pre-train an encoder; `stages.training.train` runs it.

    Attributes:
        options: the model of its options, all with defaults.
        loss: from the options, the loss of a batch.
        has_head: the encoder is built with a head of one output a class, and its weights keep it.
        wrap: from the encoder and a seed, the module that is trained: it holds the encoder, and what else the loss needs.
        measure: (options, encoder, uint8 pixels [n, c, h, w], labels [n], preprocess, device, seed) -> what held-out
            images say of the finished encoder, for its card.
    """

    options: type[Section]
    loss: Callable[[Any], Loss]
    has_head: bool = True
    wrap: Callable[[nn.Module, int], nn.Module] = as_it_is
    measure: Measure = classified
