"""How an encoder is adapted to a target on a small budget of its images, by everything that measures it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages import training


def training_ids(rows: pl.DataFrame, limit: int, stream: np.random.Generator) -> list[str]:
    """Return the ids, sorted, of a random subset of at most `limit` of the training rows.

    One image of every class comes first, so that no class goes missing while `limit` has room for all. The draw knows
    nothing of the encoder: all encoders are judged on the same images.
    """
    shuffled = rows.sort("id")[stream.permutation(len(rows)).tolist()]
    firsts = shuffled["class_index"].is_first_distinct()
    ordered = pl.concat([shuffled.filter(firsts), shuffled.filter(~firsts)])
    return sorted(ordered["id"].head(limit))


def accuracies(predicted: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return accuracy, and the mean over the classes in `truth` of each class's accuracy; both inputs are [n]."""
    right = predicted == truth
    per_class = [float(right[truth == label].mean()) for label in np.unique(truth)]
    return float(right.mean()), float(np.mean(per_class))


def fine_tune(
    model: nn.Module,
    n_classes: int,
    pixels: Tensor,
    labels: Tensor,
    preprocess: training.Normalising,
    recipe: training.Recipe,
    *,
    seed: int,
    device: torch.device,
    checkpoints: Path,
    label: str,
) -> None:
    """Train all weights of a timm model in place under a new head of `n_classes`; the rest is as in `training.train`."""
    timm_model: Any = model
    timm_model.to("cpu")  # the head is drawn on the CPU, the same on every device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        timm_model.reset_classifier(n_classes)
    training.train(model, pixels, labels, preprocess, recipe, seed=seed, device=device, checkpoints=checkpoints, label=label)
