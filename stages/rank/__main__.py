"""DVC entry: `python -m stages.rank --encoder glyph_vit` scores every layer of an encoder on every target."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import entry
from stages.artifacts import tables
from stages.artifacts.features import FeatureSet
from stages.params import Params
from stages.rank import METRICS, Statistics
from stages.seeds import generator


def main(settings: Params, name: str) -> None:
    """Write the encoder's part of `transferability`; ranks need all encoders and come with the joined table."""
    rows = []
    for target in settings.targets:
        features = FeatureSet.open(name, target)
        labels = features.labels("train")
        chosen = sample(labels, settings.rank.max_per_class, generator(settings.run.seed, "rank", target))
        probabilities = features.probabilities("train")
        for layer in features.layers:
            statistics = Statistics.of(
                features.features(layer, "train")[chosen],
                labels[chosen],
                None if probabilities is None else probabilities[chosen],
            )
            for metric in settings.rank.metrics:
                score = METRICS[metric].score(statistics)
                rows.append(
                    {
                        "target": target, "encoder": name, "layer": layer, "metric": metric, "score": score.value,
                        "higher_is_better": score.higher_is_better, "n": statistics.n, "d": statistics.d,
                        "warning": score.warning,
                    }
                )  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides={"score": pl.Float64, "warning": pl.String}, infer_schema_length=None)
    tables.write_part("transferability", name, frame, leave_out=["rank"])


def sample(labels: NDArray[np.int64], per_class: int | None, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return row numbers, ascending: all of them, or at most `per_class` of each class drawn at random."""
    if per_class is None:
        return np.arange(len(labels))
    order = stream.permutation(len(labels))
    parts = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(parts))


if __name__ == "__main__":
    entry.run("rank", main, item="encoder")
