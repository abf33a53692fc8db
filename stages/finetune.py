"""python -m stages.finetune --encoder glyph_vit

DVC entry: the ground truth of ranking. On every target a linear head on frozen features of every layer and full
fine-tuning, several seeds each, on a small budget of training images; the head alone where features were computed
elsewhere. Finished runs are kept in the store: a new target
costs only its own.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from stages import encoders, entry, seeds, training
from stages.adaptation import accuracies, fine_tune, training_ids
from stages.artifacts import store, tables, weights
from stages.artifacts.dataset import Dataset, Split, require_split
from stages.artifacts.features import FeatureSet
from stages.device import pick_device
from stages.errors import InputProblem
from stages.params import Encoder, Params
from stages.probe.logistic import LogisticProbe

CODE = (
    "finetune.py",
    "adaptation.py",
    "training.py",
    "device.py",
    "encoders",
    "datasets/decoding.py",
    "probe",
    "mapped.py",
)


@dataclass(frozen=True)
class Outcome:
    """One run's row of the table: values 0 to 1; no epochs where the head is fitted to convergence."""

    accuracy: float
    mean_per_class_accuracy: float
    epochs: int | None


def main(settings: Params, name: str) -> None:
    """Write the encoder's parts of `finetuned` and `layer_probes`.

    Raises:
        InputProblem: no such encoder, weights, features or dataset, or a target without training or test images.
    """
    candidate = settings.candidate(name)  # an unknown name ends here, before anything is computed
    benches = [Bench(settings, name, Dataset.open(target)) for target in dict.fromkeys(settings.targets)]
    rows = [
        {"target": bench.dataset.name, "encoder": name, "mode": mode, "seed": seed, **asdict(bench.outcome(mode, seed))}
        for bench in benches
        for mode in settings.finetune.modes
        if mode == "linear" or isinstance(candidate, Encoder)
        for seed in range(settings.finetune.seeds)
    ]
    schema = {column: kind.dtype for column, kind in tables.SCHEMAS["finetuned"].columns.items()}
    tables.write_part("finetuned", name, pl.DataFrame(rows, schema=schema))
    probes = layers_of(candidate, benches) if isinstance(candidate, Encoder) and "linear" in settings.finetune.modes else []
    schema = {column: kind.dtype for column, kind in tables.SCHEMAS["layer_probes"].columns.items()}
    tables.write_part("layer_probes", name, pl.DataFrame(probes, schema=schema))


def layers_of(encoder: Encoder, benches: list[Bench]) -> list[dict[str, Any]]:
    """Return the rows of `layer_probes`: a linear head on every layer. Of features computed elsewhere no depth is known."""
    depths = encoders.depths(encoders.build(encoder.arch, encoder.arch_args, num_classes=0, device="meta"), encoder.layers)
    return [
        {"target": bench.dataset.name, "encoder": bench.name, "layer": layer, "seed": seed, "depth": depths[layer],
         "d": bench.features.layer(layer).shape[1], "accuracy": bench.outcome("linear", seed, layer).accuracy}
        for bench in benches
        for layer in encoder.layers
        for seed in range(bench.settings.finetune.seeds)
    ]  # fmt: skip


class Bench:
    """One encoder on one target; what its runs share is read once, when a run first needs it."""

    def __init__(self, settings: Params, name: str, dataset: Dataset) -> None:
        self.settings, self.name, self.dataset = settings, name, dataset
        self.device = pick_device(settings.run)
        budget = settings.finetune
        self.recipe = training.Recipe(
            budget.epochs, budget.batch_size, budget.learning_rate, budget.weight_decay, settings.run.precision
        )
        rows = require_split(dataset.rows, "train", dataset.name)
        require_split(dataset.rows, "test", dataset.name)
        self.ids = {
            seed: training_ids(rows, budget.max_train, seeds.generator(settings.run.seed, "finetune", dataset.name, seed))
            for seed in range(budget.seeds)
        }

    def outcome(self, mode: str, seed: int, layer: str | None = None) -> Outcome:
        """Return one run's outcome from the store, or measure it and keep it there.

        `layer` is the one under a linear head, by default what the encoder's own head sees, else the last one listed.
        """
        layer = layer or self.settings.candidate(self.name).head_layer
        folder = store.folder("finetune", store.key(self._inputs(mode, seed, layer), CODE))
        account = training.kept_account(folder / "outcome.json")
        if account is not None:
            return Outcome(**account)
        outcome = self._linear(seed, layer) if mode == "linear" else self._full(seed, folder / "checkpoints")
        training.keep_account(folder / "outcome.json", asdict(outcome))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        what = f"linear on {layer}" if mode == "linear" else mode
        line = f"finetune {self.name} on {self.dataset.name}, {what}, seed {seed}: accuracy {outcome.accuracy:.4f}"
        print(line, file=sys.stderr)
        return outcome

    def _inputs(self, mode: str, seed: int, layer: str) -> dict[str, object]:
        """Return all that a run's outcome depends on."""
        shared = {"dataset": self.dataset.identity, "ids": self.ids[seed], "mode": mode, "threads": self.settings.run.threads}
        if mode == "linear":
            kept = self.features.facts["files"][self.features.facts["layers"][layer]]
            return {**shared, "features": kept, "c": self.settings.finetune.linear_c}
        training_too = {"recipe": asdict(self.recipe), "seed": self._seed(seed), "device": self.device.type}
        return {**shared, "card": self.card.what_matters(), **training_too}

    def _seed(self, seed: int) -> int:
        return seeds.integer_seed(self.settings.run.seed, "finetune", self.dataset.name, self.name, seed)

    @cached_property
    def features(self) -> FeatureSet:
        """Return the encoder's cached features of the target."""
        return FeatureSet.open(self.name, self.dataset.name)

    def _linear(self, seed: int, layer: str) -> Outcome:
        """Fit a logistic head on cached features of one layer."""
        rows = self.features.where("train")
        rows = rows[self.features.index["id"].gather(rows).is_in(self.ids[seed]).to_numpy()]
        labels = self.features.labels()
        if len(np.unique(labels[rows])) < 2:
            where, next_step = str(self.dataset.path), "add images of another class, then `dvc repro`"
            raise InputProblem("the training images are of one class", where=where, next_step=next_step)
        head = LogisticProbe(c=self.settings.finetune.linear_c)
        head.fit(np.asarray(self.features.layer(layer)[rows], dtype=np.float32), labels[rows])
        return Outcome(*accuracies(head.predict(self.features.features(layer, "test")), self.features.labels("test")), None)

    @cached_property
    def card(self) -> weights.Card:
        """Return the card of the encoder's weights."""
        return weights.read_card(self.name)

    @cached_property
    def train_images(self) -> tuple[list[str], Tensor, Tensor]:
        """Return ids, pixels and class indices of all training images that some seed uses."""
        used = sorted({identity for ids in self.ids.values() for identity in ids})
        rows = self.dataset.rows.filter(pl.col("split") == "train", pl.col("id").is_in(used))
        return (rows["id"].to_list(), *self._pixels("train", used))

    @cached_property
    def test_images(self) -> tuple[Tensor, Tensor]:
        """Return pixels and class indices of the whole test split."""
        return self._pixels("test", None)

    def _pixels(self, split: Split, ids: list[str] | None) -> tuple[Tensor, Tensor]:
        return training.load_pixels(
            self.dataset, split, encoders.Preprocess.of(self.card), max_pixels=self.settings.ingest.max_pixels, ids=ids,
            workers=self.settings.run.decoding_workers,
        )  # fmt: skip

    def _full(self, seed: int, checkpoints: Path) -> Outcome:
        """Train all weights, under a new head, and classify the whole test split."""
        model, card = encoders.load(self.name)
        preprocess = encoders.Preprocess.of(card)
        ids, pixels, labels = self.train_images
        chosen = pl.Series(ids).is_in(self.ids[seed]).to_torch()
        fine_tune(
            model, len(self.dataset.classes), pixels[chosen], labels[chosen], preprocess, self.recipe,
            seed=self._seed(seed), device=self.device, checkpoints=checkpoints,
            label=f"finetune {self.name} on {self.dataset.name}, seed {seed}",
        )  # fmt: skip
        test_pixels, truth = self.test_images
        predicted = training.predict(model, test_pixels, preprocess, self.device).argmax(dim=1)
        return Outcome(*accuracies(predicted.numpy(), truth.numpy()), self.recipe.epochs)


if __name__ == "__main__":
    entry.run("finetune", main, item="encoder")
