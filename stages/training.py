"""Training of any torch model on decoded images: one loop for pre-training, fine-tuning and proofs.

AdamW, a one-cycle learning rate (Smith and Topin, arXiv 1708.07120) stepped at every batch, no weight decay on
one-dimensional parameters (biases, norms). The loss is cross-entropy without label smoothing on images as they are,
unless another is given. Every epoch has random streams of its own, so a run resumed from its last checkpoint ends in the
same bytes as one that was never stopped.

Pixels are decoded once and kept as bytes, in memory up to `IN_MEMORY` and in an unnamed file of the store above it. A
thousand times the default (6 million images of 32x32, 6 GB) thus needs disk instead of memory; batches are then
random reads of one image each, which a solid-state disk serves faster than a CPU trains.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from stages import seeds
from stages.artifacts import atomic, manifest, store
from stages.artifacts.dataset import Dataset, Split
from stages.datasets.decoding import Undecodable, decode_image
from stages.device import autocast
from stages.errors import InputProblem
from stages.progress import bar

IN_MEMORY = 2 * 2**30  # bytes of pixels kept in memory
CHECKPOINT = "newest.pt"


class Normalising(Protocol):
    """What training needs of `stages.encoders.Preprocess`."""

    def normalise(self, batch: Tensor) -> Tensor:
        """Return the uint8 batch [n, c, h, w] as float32."""


class Preparing(Normalising, Protocol):
    """What `load_pixels` needs of `stages.encoders.Preprocess`."""

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return uint8 pixels [c, h, w]."""


Normalise = Callable[[Tensor], Tensor]  # pixels [n, c, h, w], 0 .. 255 -> what the model takes
# (model, uint8 pixels [n, c, h, w], labels [n], normalise, generator on their device) -> mean loss of the batch
Loss = Callable[[nn.Module, Tensor, Tensor, Normalise, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters. `precision` "auto" is bfloat16 where the device is CUDA, float32 elsewhere."""

    epochs: int
    batch_size: int
    learning_rate: float  # the peak of the cycle
    weight_decay: float
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True)
class TrainLog:
    """What a training did: optimiser steps, and the mean loss of the last epoch."""

    steps: int
    final_loss: float


def load_pixels(
    dataset: Dataset,
    split: Split,
    preprocess: Preparing,
    *,
    max_pixels: int = 50_000_000,
    ids: Sequence[str] | None = None,
    workers: int = 1,
) -> tuple[Tensor, Tensor]:
    """Decode one split, or the images `ids` of it, into uint8 pixels [n, c, h, w] and class indices int64 [n].

    Rows come in the dataset's own order, whatever the order of `ids` and the number of `workers`, the threads that
    decode (which leaves Python's lock). An empty split gives n = 0.

    Raises:
        InputProblem: an image that ingest accepted cannot be decoded any more.
    """
    rows = dataset.rows.filter(pl.col("split") == split)
    if ids is not None:
        rows = rows.filter(pl.col("id").is_in(list(ids)))
    labels = torch.from_numpy(rows["class_index"].to_numpy().astype(np.int64))
    wanted = set(rows["id"])

    def prepare(item: tuple[str, bytes]) -> NDArray[np.uint8]:
        try:
            return preprocess.pixels(decode_image(item[1], max_pixels=max_pixels))
        except Undecodable as error:
            raise InputProblem(
                f"image {item[0]!r} cannot be decoded ({error})", where=str(dataset.path), next_step="dvc repro --force sources"
            ) from None

    pixels = torch.empty((0, 1, 1, 1), dtype=torch.uint8)
    filled = 0
    encoded = (item for item in dataset.images([split]) if item[0] in wanted)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        while block := list(islice(encoded, 256)):
            for array in pool.map(prepare, block):
                if filled == 0:
                    pixels = _room(len(rows), array.shape)
                pixels.numpy()[filled] = array
                filled += 1
    if filled != len(rows):
        raise InputProblem(f"{len(rows) - filled} images are missing", where=str(dataset.path), next_step="dvc repro sources")
    return pixels, labels


def _room(n: int, shape: tuple[int, ...]) -> Tensor:
    """Return an uninitialised uint8 tensor [n, *shape], in memory or in a file that ends with the process."""
    if n * int(np.prod(shape)) <= IN_MEMORY:
        return torch.empty((n, *shape), dtype=torch.uint8)
    store.STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=store.STORE) as handle:
        return torch.from_numpy(np.memmap(handle, dtype=np.uint8, mode="w+", shape=(n, *shape)))


def train(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    preprocess: Normalising,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    loss: Loss | None = None,
    checkpoints: Path | None = None,
    label: str = "",
) -> TrainLog:
    """Train `model` in place, leaving it on `device` in evaluation mode.

    Args:
        model: maps normalised images [n, c, h, w] to logits [n, k], or to what `loss` makes use of.
        pixels: uint8 [n, c, h, w], n >= 2.
        labels: int64 [n], 0 .. k-1.
        preprocess: normalises a batch.
        recipe: hyper-parameters.
        seed: of the order of images, of dropout and of the loss; the initial weights are the model's own. The global
            random state is left as it was.
        device: where to train.
        loss: what a step descends; cross-entropy where it is not said.
        checkpoints: a folder for the newest checkpoint, from which a killed run with the same arguments resumes.
        label: what to call the run on the screen.

    Raises:
        InputProblem: fewer than two images, or the loss is no longer finite.
    """
    if len(pixels) < 2:
        what = f"training needs two images or more, not {len(pixels)}"
        raise InputProblem(what, where=label or None, next_step="add training images, then `dvc repro`")
    model.to(device)
    optimizer = _optimizer(model, recipe)
    whole, rest = divmod(len(pixels), recipe.batch_size)
    batches = whole + (rest > 1)  # as `_batches` has it
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.epochs * batches)
    state = _State(model, optimizer, schedule, {"recipe": asdict(recipe), "seed": seed, "n": len(pixels)})
    path = None if checkpoints is None else checkpoints / CHECKPOINT
    first, reached = (0, float("nan")) if path is None else state.load(path)
    with bar(label or "training", len(pixels) * recipe.epochs, "images", done=len(pixels) * first) as advance:
        for epoch in range(first, recipe.epochs):
            step = _Step(model, loss or cross_entropy, preprocess.normalise, recipe.precision, optimizer, schedule)
            reached = _epoch(step, pixels, labels, recipe.batch_size, (seed, epoch), advance)
            if not np.isfinite(reached):
                raise InputProblem(
                    f"the loss is no longer finite in epoch {epoch + 1}",
                    where=label or None,
                    next_step=f"lower the learning rate ({recipe.learning_rate:g}) in params.yaml, then `dvc repro`",
                )
            if path is not None:
                state.save(path, epoch + 1, reached)
    model.eval()
    return TrainLog(steps=recipe.epochs * batches, final_loss=reached)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    # One fused kernel instead of a dozen small ones a parameter: a fifth of the time of a small model's step.
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _batches(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices of an epoch's batches: a permutation of range(n). A last batch of one, which batch norm cannot
    normalise, is left out."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for start in range(0, n, size):
        if size == 1 or n - start > 1:
            yield order[start : start + size]


@dataclass(frozen=True)
class _Step:
    """All that one optimiser step needs beside its batch."""

    model: nn.Module
    loss: Loss
    normalise: Normalise
    precision: str
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def __call__(self, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Take the step and return the batch's mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(pixels.device, self.precision):
            loss = self.loss(self.model, pixels, labels, self.normalise, generator)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def _epoch(
    step: _Step, pixels: Tensor, labels: Tensor, batch_size: int, stream: tuple[int, int], advance: Callable[[int], None]
) -> float:
    """Run one epoch and return its mean loss; `stream` is (seed, epoch)."""
    device = next(step.model.parameters()).device
    step.model.train()
    total, seen = torch.zeros((), device=device), 0
    generator = torch.Generator(device).manual_seed(seeds.integer_seed(stream[0], "loss", stream[1]))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds.integer_seed(stream[0], "dropout", stream[1]))
        for index in _batches(len(pixels), batch_size, seeds.integer_seed(stream[0], "order", stream[1])):
            total += step(pixels[index].to(device), labels[index].to(device), generator) * len(index)
            seen += len(index)
            advance(len(index))
    return float(total) / seen


def cross_entropy(
    model: nn.Module, pixels: Tensor, labels: Tensor, normalise: Normalise, _generator: torch.Generator
) -> Tensor:
    """Return the mean cross-entropy of a batch of uint8 pixels [n, c, h, w]: the loss of supervised training."""
    return functional.cross_entropy(model(normalise(pixels)), labels)


def predict(model: nn.Module, pixels: Tensor, preprocess: Normalising, device: torch.device, batch_size: int = 256) -> Tensor:
    """Return float32 logits [n, k] of uint8 pixels [n, c, h, w], on the CPU; computed in float32 on every device."""
    model.to(device).eval()
    with torch.inference_mode():
        parts = [
            model(preprocess.normalise(pixels[start : start + batch_size].to(device))).float().cpu()
            for start in range(0, len(pixels), batch_size)
        ]
    return torch.cat(parts) if parts else torch.empty((0, 0))


def keep_account(path: Path, account: dict[str, Any]) -> None:
    """Write what a finished unit of work in the store came to, with a checksum; call it last."""
    content = {"account": account, "sha256": manifest.digest(account)}
    atomic.write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def kept_account(path: Path) -> dict[str, Any] | None:
    """Return what `keep_account` wrote, or None where it is not there or, said in one line, damaged."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        account: dict[str, Any] = content["account"]
        if manifest.digest(account) == content["sha256"]:
            return account
    except (ValueError, KeyError, TypeError):
        pass
    drop_damaged(path)
    return None


def drop_damaged(path: Path) -> None:
    """Delete a damaged file of the store, so that its unit of work is computed again."""
    print(f"{path}: is damaged; it is dropped and computed again", file=sys.stderr)
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _State:
    """All that a training carries from one epoch to the next; `run` tells one training from another."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    run: dict[str, Any]

    def save(self, path: Path, epochs_done: int, loss: float) -> None:
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "run": self.run,
            "epochs_done": epochs_done,
            "loss": loss,
        }
        with atomic.new_file(path) as scratch:
            torch.save(content, scratch)

    def load(self, path: Path) -> tuple[int, float]:
        """Take up the checkpoint and return (epochs done, last loss); one that is damaged or of another run is left."""
        if not path.is_file():
            return 0, float("nan")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            run, epochs_done, loss = content["run"], int(content["epochs_done"]), float(content["loss"])
        except Exception as error:  # damaged bytes make the reader raise nearly anything
            print(f"{path}: cannot be read ({error}); training starts again", file=sys.stderr)
            return 0, float("nan")
        if run != self.run:
            print(f"{path}: is of another run; training starts again", file=sys.stderr)
            return 0, float("nan")
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        return epochs_done, loss
