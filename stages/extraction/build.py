"""A job from params.yaml and the Weights, made wherever it runs."""

from __future__ import annotations

import torch

from stages.artifacts.weights import Card
from stages.encoders import Preprocess, Tapped, load
from stages.extraction.job import Job
from stages.params import Params


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
        dataset: the dataset's name, for messages.
        device: as torch writes it.
        beside: processes on this host that share its cores for decoding; no output depends on it.
        loaded: the encoder's model and card where they are at hand.
    """
    model, card = loaded or load(encoder)
    workers, asked = settings.run.decoding_workers, settings.encoder(encoder)
    return Job(
        Tapped(model, asked.layers, asked.grids), Preprocess.of(card), torch.device(device), settings.run.precision,
        settings.extract.batch_size, settings.extract.shard_images, settings.extract.dtype,
        max(1, workers // beside) if workers else 0, settings.ingest.max_pixels, keep_probabilities=bool(card.classes),
        label=f"{encoder} on {dataset}",
    )  # fmt: skip
