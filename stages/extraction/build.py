"""A job from params.yaml and the Weights, made wherever it runs."""

from __future__ import annotations

from pathlib import Path

import torch

from stages.artifacts import store
from stages.artifacts.dataset import Dataset
from stages.artifacts.weights import Card
from stages.encoders import Preprocess, Tapped, load
from stages.extraction.batching import chosen_batch
from stages.extraction.compiled import Compiled, check_compiler
from stages.extraction.job import Job
from stages.extraction.on_device import decoding_device
from stages.params import Params

# What kept pixels depend on.
CODE = ("extraction/pixels.py", "extraction/on_device.py", "encoders/preprocess.py", "datasets/decoding.py")


def job_for(
    settings: Params,
    encoder: str,
    dataset: str,
    device: str,
    beside: int = 1,
    loaded: tuple[torch.nn.Module, Card] | None = None,
) -> Job:
    """Return the job of one encoder on one dataset.

    Args:
        settings: all of params.yaml.
        encoder: its name.
        dataset: the dataset's name.
        device: as torch writes it.
        beside: processes on this host that share its cores for decoding; no output depends on it.
        loaded: the encoder's model and card where they are at hand.

    Raises:
        InputProblem: the model is to be compiled, and there is no compiler.
    """
    model, card = loaded or load(encoder)
    workers, asked, how, on = settings.run.decoding_workers, settings.encoder(encoder), settings.extract, torch.device(device)
    if how.compile:
        check_compiler(on)
    tapped = Tapped(model, asked.layers, asked.grids)
    images = Dataset.open(dataset)
    batch_size = chosen_batch(tapped, card.input_size, on) if how.batch_size == "auto" else how.batch_size
    most = max(1, min(len(images.rows), how.shard_images))  # in a batch, the last of which is filled up
    batch_size = min(batch_size, 1 << (most - 1).bit_length())
    return Job(
        Compiled(model, asked.layers, asked.grids) if how.compile else tapped,
        Preprocess.of(card), on, settings.run.precision, batch_size, how.shard_images, how.dtype,
        max(1, workers // beside) if workers else 0, settings.ingest.max_pixels, keep_probabilities=bool(card.classes),
        label=f"{encoder} on {dataset}", channels_last=on.type == "cuda" if how.channels_last == "auto" else how.channels_last,
        decode=how.decode, kept_pixels=_kept_pixels(card, images, how.decode, on) if how.predecode else None,
    )  # fmt: skip


def _kept_pixels(card: Card, dataset: Dataset, decode: str, device: torch.device) -> Path:
    """Return the store's folder of one dataset's pixels, decoded, resized and cropped as a card wants them."""
    made_from = {"dataset": dataset.identity, "size": card.input_size, "by": card.interpolation, "crop": card.crop_pct}
    made_from["decode"] = decoding_device(device).type if decode == "device" else decode
    return store.folder("pixels", store.key(made_from, CODE))
