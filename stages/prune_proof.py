"""python -m stages.prune_proof

DVC entry: pre-train again on what each pruning keeps, for the same number of epochs, and see how the target fares.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from stages import encoders, entry, seeds, training
from stages.artifacts import pruning, store, tables, weights
from stages.artifacts.dataset import Dataset, Split, require_split
from stages.device import pick_device
from stages.params import Params, PrunePair
from stages.probe.logistic import LogisticProbe

CODE = ("prune_proof.py", "training.py", "device.py", "encoders", "datasets/decoding.py", "probe/logistic.py", "probe/heads.py")
BATCH = 256  # images through the network at once when features are taken


@dataclass(frozen=True)
class Run:
    """One pre-training: the source images it may see, and the repetition; `method` says who chose them."""

    method: str
    keep_fraction: float
    seed: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What one run gave; kept in the store."""

    n_classes: int
    n_images: int
    pretrain_steps: int
    downstream_accuracy: float


class Bench:
    """What all runs of one pair share: the surrogate's architecture and the decoded images, read once when needed."""

    def __init__(self, settings: Params, pair: PrunePair) -> None:
        self.settings, self.pair = settings, pair
        self.source, self.target = Dataset.open(pair.source), Dataset.open(pair.target)
        self.card = weights.read_card(pair.surrogate)
        self.preprocess = encoders.Preprocess.of(self.card)
        self.device = pick_device(settings.run)
        asked = settings.pretrain
        self.recipe = training.Recipe(
            epochs=asked.epochs,
            batch_size=asked.batch_size,
            learning_rate=asked.learning_rate,
            weight_decay=asked.weight_decay,
            precision=settings.run.precision,
        )

    @cached_property
    def source_rows(self) -> pl.DataFrame:
        """Return the source's training rows, in the order of `source_pixels`."""
        return require_split(self.source.rows, "train", self.pair.source)

    @cached_property
    def source_pixels(self) -> tuple[Tensor, Tensor]:
        """Return uint8 pixels [n, c, h, w] and class indices [n] of the source's training images."""
        return self._pixels(self.source, "train")

    @cached_property
    def target_train(self) -> tuple[Tensor, Tensor]:
        """Return pixels and class indices of the target's training images."""
        return self._pixels(self.target, "train")

    @cached_property
    def target_test(self) -> tuple[Tensor, Tensor]:
        """Return pixels and class indices of the target's test images."""
        return self._pixels(self.target, "test")

    def _pixels(self, dataset: Dataset, split: Split) -> tuple[Tensor, Tensor]:
        require_split(dataset.rows, split, dataset.name)
        limit, workers = self.settings.ingest.max_pixels, self.settings.run.decoding_workers
        return training.load_pixels(dataset, split, self.preprocess, max_pixels=limit, workers=workers)

    def key(self, run: Run) -> str:
        """Return the content key of a run: methods that keep the same images share one run."""
        content = {
            "source": self.source.identity,
            "target": self.target.identity,
            "ids": sorted(run.ids),
            "card": self.card.what_matters(tensors=False),
            "recipe": asdict(self.recipe),
            "seed": self.seed_of(run),
            "device": self.device.type,
            "threads": self.settings.run.threads,
        }
        return store.key(content, CODE)

    def seed_of(self, run: Run) -> int:
        """Return the seed of first weights and batches: the same for all runs of one repetition, so they are paired."""
        return seeds.integer_seed(self.settings.run.seed, "prune_proof", self.pair.source, self.pair.target, run.seed)

    def measure(self, run: Run, checkpoints: Path) -> Outcome:
        """Pre-train on the run's images, or on none, and fit a linear head on the target's frozen features."""
        seed = self.seed_of(run)
        chosen = np.flatnonzero(self.source_rows["id"].is_in(list(run.ids)).to_numpy())
        steps, n_classes = 0, 0
        if len(chosen):
            pixels, labels = self.source_pixels
            kept_labels, contiguous = torch.unique(labels[chosen], return_inverse=True)
            n_classes = len(kept_labels)
            model = encoders.build(self.card.arch, self.card.arch_args, num_classes=n_classes, seed=seed)
            log = training.train(
                model, pixels[chosen], contiguous, self.preprocess, self.recipe,
                seed=seed, device=self.device, checkpoints=checkpoints,
                label=f"{self.pair.source} {run.method} {run.keep_fraction:g} seed {run.seed}",
            )  # fmt: skip
            steps = log.steps
        else:
            model = encoders.build(self.card.arch, self.card.arch_args, num_classes=0, seed=seed)
        return Outcome(n_classes, len(chosen), steps, self._downstream(model))

    def _downstream(self, model: torch.nn.Module) -> float:
        model.to(self.device).eval()
        tapped = encoders.Tapped(model, ["pooled"])
        (train, train_labels), (test, test_labels) = self.target_train, self.target_test
        head = LogisticProbe().fit(self._features(tapped, train), train_labels.numpy())
        return float(np.mean(head.predict(self._features(tapped, test)) == test_labels.numpy()))

    @torch.inference_mode()
    def _features(self, tapped: encoders.Tapped, pixels: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return pooled features [n, d]."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            batch = self.preprocess.normalise(pixels[start : start + BATCH].to(self.device))
            parts.append(tapped(batch)[0]["pooled"].float().cpu())
        return torch.cat(parts).numpy()


def plan(settings: Params, pair: PrunePair, source_ids: tuple[str, ...]) -> Iterator[Run]:
    """Yield every run of a pair: the full source, none of it, and what each method keeps at each fraction."""
    for seed in range(settings.prune.seeds):
        yield Run("full", 1.0, seed, source_ids)
        yield Run("none", 0.0, seed, ())
        for method in dict.fromkeys(settings.prune.methods):
            pruned = pruning.Pruning.open(pair.source, pair.target, method)
            for fraction in dict.fromkeys(settings.prune.fractions):
                yield Run(method, fraction, seed, tuple(pruned.kept(fraction, seed)["id"]))


def finished(bench: Bench, run: Run, key: str) -> Outcome:
    """Return a run's outcome from the store, or measure it and keep it there under `key`."""
    folder = store.folder("proof", key)
    account = training.kept_account(folder / "outcome.json")
    if account is not None:
        return Outcome(**account)
    started = time.perf_counter()
    outcome = bench.measure(run, folder / "checkpoints")
    training.keep_account(folder / "outcome.json", asdict(outcome))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    seconds = time.perf_counter() - started
    print(
        f"prune_proof {bench.pair.source} -> {bench.pair.target}, {run.method} {run.keep_fraction:g}, seed {run.seed}: "
        f"accuracy {outcome.downstream_accuracy:.4f} after {outcome.pretrain_steps} steps, {seconds:.1f} s",
        file=sys.stderr,
    )
    _keep_time(bench.pair, run, outcome, seconds)
    return outcome


def _keep_time(pair: PrunePair, run: Run, outcome: Outcome, seconds: float) -> None:
    """Append the run's wall time to the timings, which are no artifact."""
    entry.TIMINGS.mkdir(parents=True, exist_ok=True)
    line = {
        "source": pair.source, "target": pair.target, "method": run.method, "keep_fraction": run.keep_fraction,
        "seed": run.seed, "pretrain_steps": outcome.pretrain_steps, "seconds": round(seconds, 3),
    }  # fmt: skip
    with (entry.TIMINGS / "prune_proof_runs.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")


def main(settings: Params, name: str = "") -> None:
    """Measure every run that the store lacks, and write data/results/pruning_outcomes.parquet."""
    rows = []
    for pair in settings.prune.pairs:
        bench = Bench(settings, pair)
        full: dict[int, float] = {}
        runs = list(plan(settings, pair, tuple(bench.source_rows["id"])))
        # Keys first: they hash the code, and a file that is edited during the runs is not the code that runs.
        for run, key in zip(runs, [bench.key(run) for run in runs], strict=True):
            outcome = finished(bench, run, key)
            if run.method == "full":
                full[run.seed] = outcome.downstream_accuracy
            rows.append(
                {
                    "source": pair.source,
                    "target": pair.target,
                    "method": run.method,
                    "keep_fraction": run.keep_fraction,
                    "seed": run.seed,
                    **asdict(outcome),
                    "full_source_accuracy": full[run.seed],
                }
            )
    schema = {key: column.dtype for key, column in tables.SCHEMAS["pruning_outcomes"].columns.items()}
    tables.write("pruning_outcomes", pl.DataFrame(rows, schema=schema))


if __name__ == "__main__":
    entry.run("prune_proof", main)
