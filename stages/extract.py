"""DVC entry: `python -m stages.extract --encoder glyph_vit` computes the frozen features of every dataset that needs them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from stages import entry
from stages.artifacts import atomic, features, store
from stages.artifacts.dataset import Dataset
from stages.artifacts.weights import Card
from stages.encoders import GRID, Tapped, load
from stages.errors import InputProblem
from stages.extraction import Clock, Writer, extract, job_for, on_devices, pick_devices
from stages.params import Encoder, Params

CODE = ("extract.py", "extraction", "device.py", "encoders", "datasets/decoding.py")


def main(settings: Params, name: str) -> None:
    """Write `data/features/<name>/`, one folder a dataset; what the store holds already is linked, not computed.

    Raises:
        InputProblem: no such encoder, layer, weights or dataset, or features that are not finite.
        TryAgain: another process extracts the same.
    """
    encoder = settings.encoder(name)
    model, card = load(name)
    devices = pick_devices(settings.run, settings.extract.devices, here=settings.extract.ray is None)
    kind = devices[0].partition(":")[0]
    tapped: Tapped | None = None
    told = False
    with atomic.new_folder(features.FEATURES / name) as folder:
        for dataset_name in settings.datasets_of(name):
            dataset = Dataset.open(dataset_name)
            if dataset.rows.is_empty():
                raise InputProblem("holds no images", where=str(dataset.path), next_step="add images, then `dvc repro`")
            here = devices[0] if settings.extract.ray is None else "cpu"  # a cluster's hosts make jobs of their own
            job, clock = job_for(settings, name, dataset_name, here, loaded=(model, card)), Clock()
            tapped = tapped or job.tapped  # compiled once
            job = replace(job, tapped=tapped)
            unit = {
                "card": card.what_matters(), "probabilities": bool(card.classes), "layers": encoder.layers,
                "grids": encoder.grids, "extract": settings.extract.what_matters(), "precision": settings.run.precision,
                "device": kind, "threads": settings.run.threads, "batch_size": job.batch_size,
            }  # fmt: skip
            # Beside each other: what one dataset has cost is taken over where another holds the same images.
            work = store.folder("features", f"{store.key(unit, CODE)}/{dataset.identity[:32]}")
            with atomic.lock(work):  # two names for the same weights share it
                write = writer(settings, name, dataset_name, devices, work)
                # What a cluster's hosts have computed cannot be put to the proof here.
                joined = extract(job, dataset, work, clock, write, reuse=settings.extract.ray is None)
                _publish(joined, folder / dataset_name, dataset, name, card, encoder, settings.extract.dtype)
            gain = clock.gain or job.gain  # of the job alone where all images were known
            if gain is not None and not told:
                told = True
                each = " for each process" if len(devices) > 1 or settings.extract.ray else ""
                print(f"{job.label}: {gain.told()}{each}", file=sys.stderr)
            if clock.images:
                entry.keep_rate("extract", {
                    "encoder": name, "dataset": dataset_name, "devices": devices, "batch_size": job.batch_size,
                    "threads": settings.run.threads, "workers": settings.run.decoding_workers, **clock.facts(),
                    **(gain.facts() if gain else {}),
                })  # fmt: skip


def writer(settings: Params, name: str, dataset: str, devices: list[str], work: Path) -> Writer | None:
    """Return what writes the shards elsewhere, on a cluster or on several devices; None where this process does it itself."""
    build = partial(job_for, settings, name, dataset)
    if settings.extract.ray is not None:
        from stages.extraction.on_ray import on_ray

        return partial(on_ray, build, settings.extract.ray, devices[0].partition(":")[0], dataset, work, settings.run.threads)
    if len(devices) > 1:
        return partial(on_devices, build, devices, dataset, work, settings.run.threads)
    return None


def _publish(joined: Path, folder: Path, dataset: Dataset, name: str, card: Card, encoder: Encoder, dtype: str) -> None:
    """Link the finished arrays into the output folder, with the rows' ids and labels beside them."""
    folder.mkdir()
    for array in sorted(joined.glob("*.npy")):
        store.link(array, folder / array.name)
    features.finish(
        folder, name, dataset, layers=encoder.layers, grids={layer: f"{layer}{GRID}.npy" for layer in encoder.grids},
        dtype=dtype, inputs={"weights": card.sha256}, source_classes=card.classes or None,
    )  # fmt: skip


if __name__ == "__main__":
    entry.run("extract", main, item="encoder")
