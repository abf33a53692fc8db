"""DVC entry: `python -m stages.extract --encoder glyph_vit` computes the frozen features of every dataset that needs them."""

from __future__ import annotations

from pathlib import Path

from stages import entry
from stages.artifacts import atomic, features, manifest, store
from stages.artifacts.dataset import Dataset
from stages.artifacts.weights import Card
from stages.device import pick_device
from stages.encoders import Preprocess, Tapped, load
from stages.errors import InputProblem
from stages.extraction import Job, extract
from stages.params import Params

CODE = ("extract.py", "extraction", "device.py", "encoders", "datasets/decoding.py")


def datasets_of(settings: Params, name: str) -> list[str]:
    """Return the datasets an encoder is needed on: every target, and both sides of the pairs it is a pruning surrogate for."""
    pairs = [pair for pair in settings.prune.pairs if pair.surrogate == name]
    sides = [dataset for pair in pairs for dataset in (pair.source, pair.target)]
    return list(dict.fromkeys([*settings.targets, *sides]))


def main(settings: Params, name: str) -> None:
    """Write `data/features/<name>/`, one folder a dataset; what the store holds already is linked, not computed.

    Raises:
        InputProblem: no such encoder, layer, weights or dataset, or features that are not finite.
        TryAgain: another process extracts the same.
    """
    encoder = settings.encoder(name)
    model, card = load(name)
    tapped = Tapped(model, encoder.layers)
    device = pick_device(settings.run)
    with atomic.new_folder(features.FEATURES / name) as folder:
        for dataset_name in datasets_of(settings, name):
            dataset = Dataset.open(dataset_name)
            if dataset.rows.is_empty():
                raise InputProblem("holds no images", where=str(dataset.path), next_step="add images, then `dvc repro`")
            unit = {
                "card": card.what_matters(), "probabilities": bool(card.classes), "dataset": dataset.identity,
                "layers": encoder.layers,
                "extract": settings.extract.model_dump(), "precision": settings.run.precision, "device": device.type,
                "threads": settings.run.threads,
            }  # fmt: skip
            work = store.folder("features", store.key(unit, CODE))
            job = Job(
                tapped, Preprocess.of(card), device, settings.run.precision, settings.extract.batch_size,
                settings.extract.shard_images, settings.extract.dtype, settings.run.decoding_workers,
                settings.ingest.max_pixels, keep_probabilities=bool(card.classes), label=f"{name} on {dataset_name}",
            )  # fmt: skip
            with atomic.lock(work):  # two names for the same weights share it
                joined = extract(job, dataset, work)
                _publish(joined, folder / dataset_name, dataset, name, card, encoder.layers, settings.extract.dtype)


def _publish(joined: Path, folder: Path, dataset: Dataset, name: str, card: Card, layers: list[str], dtype: str) -> None:
    """Link the finished arrays into the output folder, with the rows' ids and labels beside them."""
    folder.mkdir()
    for array in sorted(joined.glob("*.npy")):
        store.link(array, folder / array.name)
    dataset.rows.select(list(features.INDEX_SCHEMA)).write_parquet(folder / "index.parquet", compression="zstd")
    manifest.write(
        folder, kind="features", version=features.VERSION, inputs={"weights": card.sha256, "dataset": dataset.identity},
        encoder=name, dataset=dataset.name, layers={layer: f"{layer}.npy" for layer in layers}, dtype=dtype,
        source_classes=card.classes or None,
    )  # fmt: skip


if __name__ == "__main__":
    entry.run("extract", main, item="encoder")
