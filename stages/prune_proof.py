"""python -m stages.prune_proof

DVC entry: pre-train again on what each pruning keeps, for the same number of epochs, and see how the target fares under a
linear head and under full fine-tuning, on the budget of target images that stage finetune has.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from stages import encoders, entry, seeds, training
from stages.adaptation import accuracies, fine_tune, training_ids
from stages.artifacts import manifest, pruning, store, tables, weights
from stages.artifacts.dataset import Dataset, Split, require_split
from stages.device import pick_device
from stages.errors import InputProblem
from stages.objectives import chosen
from stages.params import Params, PretrainWeights, PrunePair
from stages.probe.logistic import LogisticProbe
from stages.prune.savings import smallest_fraction
from stages.questions import CONTROLS

CODE = (
    "prune_proof.py", "adaptation.py", "training.py", "objectives", "device.py", "encoders", "datasets/decoding.py",
    "probe", "mapped.py",
)  # fmt: skip
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
    """What one run gave in one mode; kept in the store."""

    n_classes: int
    n_images: int
    pretrain_steps: int
    downstream_accuracy: float


class Bench:
    """What all runs of one pair share: the architecture, the objective and the decoded images, read once when needed."""

    def __init__(self, settings: Params, pair: PrunePair) -> None:
        self.settings, self.pair = settings, pair
        self.source, self.target = Dataset.open(pair.source), Dataset.open(pair.target)
        name = pair.encoder or pair.surrogate
        self.card = weights.read_card(name)
        self.preprocess = encoders.Preprocess.of(self.card)
        self.device = pick_device(settings.run)
        made = settings.encoder(name).weights
        aim = made if isinstance(made, PretrainWeights) else PretrainWeights(pretrain=pair.source)
        self.objective, self.options = chosen(aim, f"params.yaml: encoders.{name}.weights")
        recipe = training.Recipe(**settings.pretrain.model_dump(), precision=settings.run.precision)
        self.recipe = replace(recipe, epochs=settings.prune.epochs or recipe.epochs)
        budget = settings.finetune
        self.tuning = training.Recipe(
            budget.epochs, budget.batch_size, budget.learning_rate, budget.weight_decay, settings.run.precision
        )
        shared = {
            "source": self.source.identity,
            "target": self.target.identity,
            "card": self.card.what_matters(tensors=False),
            "recipe": asdict(self.recipe),
            "objective": {"name": aim.objective, **self.options.model_dump()},
            "device": self.device.type,
            "threads": settings.run.threads,
        }
        # Once, and first: it hashes the code, and a file that is edited during the runs is not the code that runs.
        self._shared_key = store.key(shared, CODE)

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

    @cached_property
    def target_ids(self) -> dict[int, list[str]]:
        """Return the target's training images of each repetition: the same that stage finetune learns from."""
        rows = require_split(self.target.rows, "train", self.pair.target)
        budget = self.settings.finetune.max_train
        drawn = {
            seed: training_ids(rows, budget, seeds.generator(self.settings.run.seed, "finetune", self.pair.target, seed))
            for seed in range(self.settings.prune.seeds)
        }
        for ids in drawn.values():
            if rows.filter(pl.col("id").is_in(ids))["class_index"].n_unique() < 2:
                where, next_step = str(self.target.path), "add images of another class, then `dvc repro`"
                raise InputProblem("the training images are of one class", where=where, next_step=next_step)
        return drawn

    def key(self, run: Run, mode: str | None = None) -> str:
        """Return the content key of a run's pre-training, or of its outcome in a mode: equal images share one run."""
        content: dict[str, Any] = {"shared": self._shared_key, "ids": sorted(run.ids), "seed": self.seed_of(run)}
        if mode is not None:
            how = self.settings.finetune.linear_c if mode == "linear" else asdict(self.tuning)
            content |= {"mode": mode, "how": how, "target ids": self.target_ids[run.seed]}
        return manifest.digest(content)[:32]

    def seed_of(self, run: Run) -> int:
        """Return the seed of first weights and batches: the same for all runs of one repetition, so they are paired."""
        return seeds.integer_seed(self.settings.run.seed, "prune_proof", self.pair.source, self.pair.target, run.seed)

    def pretrain(self, run: Run, checkpoints: Path) -> tuple[nn.Module, dict[str, int]]:
        """Return an encoder trained on the run's images, or on none, and n_classes, n_images and pretrain_steps of it."""
        seed = self.seed_of(run)
        rows = np.flatnonzero(self.source_rows["id"].is_in(list(run.ids)).to_numpy())
        if not len(rows):
            model = encoders.build(self.card.arch, self.card.arch_args, num_classes=0, seed=seed)
            return model, {"n_classes": 0, "n_images": 0, "pretrain_steps": 0}
        pixels, labels = self.source_pixels
        kept, contiguous = torch.unique(labels[rows], return_inverse=True)
        outputs = len(kept) if self.objective.has_head else 0
        model = encoders.build(self.card.arch, self.card.arch_args, num_classes=outputs, seed=seed)
        log = training.train(
            self.objective.wrap(model, seed), pixels[rows], contiguous, self.preprocess, self.recipe,
            seed=seed, device=self.device, loss=self.objective.loss(self.options), checkpoints=checkpoints,
            label=f"{self.pair.source} {run.method} {run.keep_fraction:g} seed {run.seed}",
        )  # fmt: skip
        return model, {"n_classes": len(kept), "n_images": len(rows), "pretrain_steps": log.steps}

    def adapt(self, model: nn.Module, run: Run, mode: str, checkpoints: Path) -> float:
        """Return the accuracy on the target's test images of a linear head on `model`, or of a copy that is fine-tuned."""
        train = require_split(self.target.rows, "train", self.pair.target)
        rows = np.flatnonzero(train["id"].is_in(self.target_ids[run.seed]).to_numpy())
        (pixels, labels), (test, truth) = self.target_train, self.target_test
        if mode == "linear":
            model.to(self.device).eval()
            tapped = encoders.Tapped(model, ["pooled"])
            head = LogisticProbe(c=self.settings.finetune.linear_c)
            head.fit(self._features(tapped, pixels[rows]), labels[rows].numpy())
            return accuracies(head.predict(self._features(tapped, test)), truth.numpy())[0]
        tuned = copy.deepcopy(model)
        fine_tune(
            tuned, len(self.target.classes), pixels[rows], labels[rows], self.preprocess, self.tuning,
            seed=self.seed_of(run), device=self.device, checkpoints=checkpoints,
            label=f"fine-tune on {self.pair.target}, {run.method} {run.keep_fraction:g} seed {run.seed}",
        )  # fmt: skip
        predicted = training.predict(tuned, test, self.preprocess, self.device).argmax(dim=1)
        return accuracies(predicted.numpy(), truth.numpy())[0]

    @torch.inference_mode()
    def _features(self, tapped: encoders.Tapped, pixels: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return pooled features [n, d]."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            batch = self.preprocess.normalise(pixels[start : start + BATCH].to(self.device))
            parts.append(tapped(batch)[0]["pooled"].float().cpu())
        return torch.cat(parts).numpy()


def plan(settings: Params, pair: PrunePair, source_ids: tuple[str, ...]) -> Iterator[Run]:
    """Yield every run of a pair: the full source, none of it, and what each method keeps at each fraction.

    What is kept for several targets at once is proved on each of them, as `<method> for <combination>`.
    """
    wanted = settings.prune
    kept_for = {method: (pair.target, method) for method in wanted.methods}
    for name, combined in wanted.combine.items():
        if combined.source == pair.source and pair.target in combined.targets:
            kept_for |= {f"{method} for {name}": (name, method) for method in wanted.methods if method not in CONTROLS}
    for seed in range(wanted.seeds):
        yield Run("full", 1.0, seed, source_ids)
        yield Run("none", 0.0, seed, ())
        for called, (target, method) in kept_for.items():
            pruned = pruning.Pruning.open(pair.source, target, method)
            for fraction in wanted.fractions:
                yield Run(called, fraction, seed, tuple(pruned.kept(fraction, seed)["id"]))


def finished(bench: Bench, run: Run) -> dict[str, Outcome]:
    """Return a run's outcome by mode from the store; what is not there is measured, and kept there."""
    folders: dict[str, Path] = {mode: store.folder("proof", bench.key(run, mode)) for mode in bench.settings.prune.modes}
    accounts = {mode: training.kept_account(folder / "outcome.json") for mode, folder in folders.items()}
    found = {mode: Outcome(**account) for mode, account in accounts.items() if account is not None}
    if len(found) == len(folders):
        return found
    work = store.folder("proof", bench.key(run))
    resumed, started = any(work.iterdir()), time.perf_counter()
    model, facts = bench.pretrain(run, work)
    spent = {"pretrain": time.perf_counter() - started}
    for mode in [mode for mode in folders if mode not in found]:
        started = time.perf_counter()
        accuracy = bench.adapt(model, run, mode, folders[mode] / "checkpoints")
        found[mode] = Outcome(**facts, downstream_accuracy=accuracy)
        training.keep_account(folders[mode] / "outcome.json", asdict(found[mode]))
        shutil.rmtree(folders[mode] / "checkpoints", ignore_errors=True)
        spent[mode] = time.perf_counter() - started
    shutil.rmtree(work)
    _tell(bench.pair, run, found, spent, resumed)
    return found


def _tell(pair: PrunePair, run: Run, found: dict[str, Outcome], spent: dict[str, float], resumed: bool) -> None:
    """Say how a run ended, and append its wall times to the timings, which are no artifact."""
    steps = next(iter(found.values())).pretrain_steps
    accuracy = ", ".join(f"{mode} {found[mode].downstream_accuracy:.4f}" for mode in sorted(found))
    print(
        f"prune_proof {pair.source} -> {pair.target}, {run.method} {run.keep_fraction:g}, seed {run.seed}: {accuracy} after "
        f"{steps} steps, pre-trained in {spent['pretrain']:.1f} s, adapted in {sum(spent.values()) - spent['pretrain']:.1f} s",
        file=sys.stderr,
    )
    entry.TIMINGS.mkdir(parents=True, exist_ok=True)
    line = {
        "source": pair.source, "target": pair.target, "method": run.method, "keep_fraction": run.keep_fraction,
        "seed": run.seed, "pretrain_steps": steps, "resumed": resumed,
        "seconds": {name: round(seconds, 3) for name, seconds in sorted(spent.items())},
    }  # fmt: skip
    with (entry.TIMINGS / "prune_proof_runs.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")


def main(settings: Params, name: str = "") -> None:
    """Measure every run that the store lacks, and write data/results/pruning_outcomes.parquet and pruning_savings.parquet."""
    rows = []
    for pair in settings.prune.pairs:
        if pair not in settings.trained_pairs:
            why = f"{pair.surrogate!r} is features computed elsewhere, and there is no network to train"
            print(f"prune_proof {pair.source} -> {pair.target}: left out, for {why}", file=sys.stderr)
    benches = deque(Bench(settings, pair) for pair in settings.trained_pairs)
    while benches:
        bench = benches.popleft()  # so that its images leave the memory with it
        pair, full = bench.pair, dict[tuple[int, str], float]()
        for run in plan(settings, pair, tuple(bench.source_rows["id"])):
            for mode, outcome in finished(bench, run).items():
                if run.method == "full":
                    full[run.seed, mode] = outcome.downstream_accuracy
                rows.append(
                    {
                        "source": pair.source, "target": pair.target, "method": run.method,
                        "keep_fraction": run.keep_fraction, "mode": mode, "seed": run.seed, **asdict(outcome),
                        "full_source_accuracy": full[run.seed, mode],
                    }
                )  # fmt: skip
    schema = {key: column.dtype for key, column in tables.SCHEMAS["pruning_outcomes"].columns.items()}
    outcomes = pl.DataFrame(rows, schema=schema)
    tables.write("pruning_outcomes", outcomes)
    stream = seeds.generator(settings.run.seed, "prune_proof", "smallest fraction")
    tables.write("pruning_savings", smallest_fraction(outcomes, settings.prune.tolerance, stream))


if __name__ == "__main__":
    entry.run("prune_proof", main)
