"""DVC entry: `python -m stages.finetune --encoder glyph_vit` measures what fine-tuning an encoder really gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from stages import entry
from stages.artifacts import atomic, store, tables, weights
from stages.artifacts.dataset import Dataset, require_split
from stages.artifacts.features import FeatureSet
from stages.encoders import Preprocess, load
from stages.params import Finetune, Params
from stages.probe.logistic import LogisticProbe
from stages.seeds import generator, integer_seed
from stages.training import Recipe, load_pixels, pick_device, predict, train

CODE = ("finetune.py", "training.py", "encoders", "datasets/decoding.py", "probe/logistic.py")


def main(settings: Params, name: str) -> None:
    """Write the encoder's part of `finetuned`; finished runs are kept in the store."""
    rows = []
    for target in settings.targets:
        dataset = Dataset.open(target)
        for mode in settings.finetune.modes:
            for seed in range(settings.finetune.seeds):
                unit = {
                    "weights": weights.read_card(name).sha256, "dataset": dataset.identity, "mode": mode, "seed": seed,
                    "run_seed": settings.run.seed, "settings": settings.finetune.model_dump(),
                    "encoder": settings.encoders[name].model_dump(mode="json"),
                }  # fmt: skip
                kept = store.folder("finetune", store.key(unit, CODE)) / "run.json"
                if kept.is_file():
                    outcome = json.loads(kept.read_text(encoding="utf-8"))
                else:
                    measure = _linear if mode == "linear" else _full
                    outcome = measure(settings, name, dataset, seed)
                    atomic.write_text(kept, json.dumps(outcome))
                rows.append({"target": target, "encoder": name, "mode": mode, "seed": seed, **outcome})
    tables.write_part("finetuned", name, pl.DataFrame(rows, schema_overrides={"epochs": pl.Int64}))


def training_ids(dataset: Dataset, settings: Finetune, run_seed: int, seed: int) -> list[str]:
    """Return the training images of one repetition: the same for every encoder and mode, at most `max_train`."""
    ids = require_split(dataset.rows, "train", dataset.name)["id"].to_list()
    order = generator(run_seed, "finetune", dataset.name, seed).permutation(len(ids))
    return [ids[index] for index in order[: settings.max_train]]


def _linear(settings: Params, name: str, dataset: Dataset, seed: int) -> dict[str, Any]:
    """Fit a logistic head on the cached features of the first layer named in params (`pooled` where it is kept)."""
    features = FeatureSet.open(name, dataset.name)
    layer = "pooled" if "pooled" in features.layers else features.layers[0]
    chosen = set(training_ids(dataset, settings.finetune, settings.run.seed, seed))
    rows = features.where("train")
    kept = rows[[identity in chosen for identity in features.index["id"].gather(rows)]]
    matrix, labels = features.layer(layer), features.labels()
    head = LogisticProbe(c=settings.finetune.linear_c).fit(np.asarray(matrix[kept], dtype=np.float32), labels[kept])
    predicted = head.predict(features.features(layer, "test"))
    return {**accuracies(predicted, features.labels("test")), "epochs": None}


def _full(settings: Params, name: str, dataset: Dataset, seed: int) -> dict[str, Any]:
    """Train all weights with a new head on the same images."""
    model: Any
    model, card = load(name)
    derived = integer_seed(settings.run.seed, "finetune", dataset.name, name, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived)
        model.reset_classifier(len(dataset.classes))
    preprocess = Preprocess.of(card)
    limit = settings.ingest.max_pixels
    ids = training_ids(dataset, settings.finetune, settings.run.seed, seed)
    pixels, labels = load_pixels(dataset, "train", preprocess, max_pixels=limit, ids=ids)
    options = settings.finetune
    recipe = Recipe(options.epochs, options.batch_size, options.learning_rate, options.weight_decay)
    device = pick_device(settings.run)
    train(model, pixels, labels, preprocess, recipe, seed=derived, device=device, precision=settings.run.precision,
          label=f"fine-tune {name} on {dataset.name}, seed {seed}")  # fmt: skip
    test_pixels, test_labels = load_pixels(dataset, "test", preprocess, max_pixels=limit)
    predicted = _predictions(model, test_pixels, preprocess, device)
    return {**accuracies(predicted, test_labels.numpy()), "epochs": options.epochs}


def _predictions(model: nn.Module, pixels: torch.Tensor, preprocess: Preprocess, device: torch.device) -> NDArray[np.int64]:
    predicted: NDArray[np.int64] = predict(model, pixels, preprocess, device).argmax(dim=1).numpy()
    return predicted


def accuracies(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, and the mean over the classes in `labels` of each class's accuracy; both inputs are [n]."""
    right = predicted == labels
    per_class = [float(right[labels == label].mean()) for label in np.unique(labels)]
    return {"accuracy": float(right.mean()), "mean_per_class_accuracy": float(np.mean(per_class))}


if __name__ == "__main__":
    entry.run("finetune", main, item="encoder")
