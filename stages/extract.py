"""DVC entry: `python -m stages.extract --encoder glyph_vit` computes the frozen features of every dataset that needs them."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

from stages import entry
from stages.artifacts import atomic, features, manifest, store
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import features_path
from stages.artifacts.weights import Card
from stages.encoders import Preprocess, Tapped, load
from stages.extraction import Job, extract_shards, join_shards
from stages.params import Params
from stages.training import pick_device

CODE = ("extract.py", "extraction.py", "encoders", "datasets/decoding.py")


def datasets_of(settings: Params, name: str) -> list[str]:
    """Return the datasets an encoder is needed on: every target, and the sources it is a pruning surrogate for."""
    sources = [pair.source for pair in settings.prune.pairs if pair.surrogate == name]
    return list(dict.fromkeys([*settings.targets, *sources]))


def main(settings: Params, name: str) -> None:
    """Write `data/features/<name>/`, one folder a dataset; what the store holds already is linked, not computed."""
    encoder = settings.encoders[name]
    model, card = load(name)
    tapped = Tapped(model, encoder.layers)
    preprocess = Preprocess.of(card)
    device = pick_device(settings.run)
    workers = (os.cpu_count() or 1) if settings.run.workers == "auto" else settings.run.workers
    with atomic.new_folder(features.FEATURES / name) as folder:
        for dataset_name in datasets_of(settings, name):
            dataset = Dataset.open(dataset_name)
            inputs = {"weights": card.sha256, "dataset": dataset.identity}
            unit = {
                **inputs, "card": asdict(card), "layers": encoder.layers, "extract": settings.extract.model_dump(),
                "precision": settings.run.precision, "device": device.type, "threads": settings.run.threads,
            }  # fmt: skip
            work = store.folder("features", store.key(unit, CODE))
            job = Job(
                tapped, preprocess, device, settings.run.precision, settings.extract.batch_size,
                settings.extract.shard_images, settings.extract.dtype, workers, settings.ingest.max_pixels,
                keep_probabilities=bool(card.classes), label=f"{name} on {dataset_name}",
            )  # fmt: skip
            if not (work / "joined").is_dir():
                extract_shards(job, dataset, work)
                join_shards(work, job, len(dataset.rows))
            _publish(
                work / "joined", folder / dataset_name, dataset, name, card, encoder.layers, settings.extract.dtype, inputs
            )
    print(f"{name}: features of {len(datasets_of(settings, name))} datasets in {features_path(name, '')}", file=sys.stderr)


def _publish(
    joined: Path, folder: Path, dataset: Dataset, name: str, card: Card, layers: list[str], dtype: str, inputs: dict[str, str]
) -> None:
    """Link the finished arrays into the output folder, with the rows' ids and labels beside them."""
    folder.mkdir()
    for array in sorted(joined.iterdir()):
        store.link(array, folder / array.name)
    dataset.rows.select(list(features.INDEX_SCHEMA)).write_parquet(folder / "index.parquet")
    manifest.write(
        folder, kind="features", version=features.VERSION, inputs=inputs, encoder=name, dataset=dataset.name,
        layers={layer: f"{layer}.npy" for layer in layers}, dtype=dtype, source_classes=card.classes or None,
    )  # fmt: skip


if __name__ == "__main__":
    entry.run("extract", main, item="encoder")
