"""python -m stages.rank --encoder glyph_vit

Every metric of params.yaml on the training features of one encoder: each layer, each target.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import entry, seeds
from stages.artifacts import tables
from stages.artifacts.features import FeatureSet
from stages.errors import InputProblem
from stages.params import Params
from stages.progress import bar
from stages.rank import METRICS, Statistics

if TYPE_CHECKING:
    from stages.rank.accelerator import Accelerator


def sample(labels: NDArray[np.int64], max_per_class: int | None, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows to score, ascending: all of them, or at most `max_per_class` of each class at random."""
    if max_per_class is None:
        return np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(generator.permutation(rows)[:max_per_class])
    return np.sort(np.concatenate(chosen))


def accelerator(settings: Params) -> Accelerator | None:
    """Return what params.yaml asks for: None is the CPU, for which torch need not be imported, which takes seconds."""
    if settings.rank.device == "cpu":
        return None
    from stages.device import pick_device
    from stages.rank.accelerator import Accelerator

    return Accelerator(pick_device(settings.run.model_copy(update={"device": settings.rank.device})))


def read(features: FeatureSet, layer: str, chosen: NDArray[np.int64], accelerator: Accelerator | None = None) -> Statistics:
    """Return the statistics of some training rows of one layer; raises InputProblem naming the layer if not finite."""
    labels = features.labels("train")[chosen]
    try:
        rows = features.where("train")[chosen]
        return Statistics(features.layer(layer), labels, features.mapped_probabilities, rows, accelerator)
    except InputProblem as problem:
        raise InputProblem(problem.what, where=f"{features.path}/{layer}", next_step=problem.next_step) from None


def score_candidate(statistics: Statistics, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each number that the metrics give for one layer on one target."""
    return [
        {
            "metric": row,
            "score": score.value,
            "higher_is_better": score.higher_is_better,
            "n": statistics.n,
            "d": statistics.d,
            "n_classes": statistics.n_classes,
            "n_source_classes": statistics.n_source_classes,
            "warning": score.warning,
        }
        for name in metrics
        for row, score in METRICS[name].rows(name, statistics).items()
    ]


def main(settings: Params, name: str) -> None:
    """Write the encoder's part of `transferability`.

    Raises:
        InputProblem: an unknown metric, or features that are not there, empty or not finite.
    """
    rank = settings.rank
    for metric in rank.metrics:
        METRICS[metric]  # an unknown name ends here, before anything is computed
    device = accelerator(settings)
    rows: list[dict[str, Any]] = []
    with bar(f"rank {name}", len(settings.targets) * len(settings.candidate(name).layers), "layers") as advance:
        for target in settings.targets:
            features = FeatureSet.open(name, target)
            labels = features.labels("train")
            if not len(labels):
                raise InputProblem("has no training images", where=str(features.path), next_step="add images, then `dvc repro`")
            # Not keyed by the encoder: every encoder is scored on the same images.
            chosen = sample(labels, rank.max_per_class, seeds.generator(settings.run.seed, "rank", target))
            for layer in features.layers:
                statistics = read(features, layer, chosen, device)
                key = {"target": target, "encoder": name, "layer": layer}
                rows += [{**key, **row} for row in score_candidate(statistics, rank.metrics)]
                advance(1)
    schema = {column: kind.dtype for column, kind in tables.SCHEMAS["transferability"].columns.items() if column != "rank"}
    tables.write_part("transferability", name, pl.DataFrame(rows, schema=schema), leave_out=["rank"])
    print(f"rank@{name}: {len(rows)} scores", file=sys.stderr)


if __name__ == "__main__":
    entry.run("rank", main, item="encoder")
