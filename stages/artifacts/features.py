"""The Features on disk: one memory-mappable array a layer, source-class probabilities, and the rows' ids and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.artifacts import manifest
from stages.artifacts.dataset import Split
from stages.errors import InputProblem, nearest

FEATURES = Path("data/features")
VERSION = 1
INDEX_SCHEMA = {"id": pl.String, "split": pl.String, "class_index": pl.Int64}


def features_path(encoder: str, dataset: str) -> Path:
    """Return where the features of one encoder on one dataset live."""
    return FEATURES / encoder / dataset


@dataclass(frozen=True)
class FeatureSet:
    """Features of one encoder on one dataset, memory-mapped; row order is that of `index`.

    `features.json` (the folder's manifest facts) holds: encoder, dataset, layers {name: file}, dtype, and
    `source_classes`, the class names of the head, which is null where there is no trained head.
    """

    path: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, encoder: str, dataset: str, *, verify: bool = False) -> Self:
        """Open `data/features/<encoder>/<dataset>`; raises InputProblem where it is absent or damaged."""
        path = features_path(encoder, dataset)
        made_by = f"--glob 'extract*@{encoder}'"  # extract@ or, of features computed elsewhere, extract_given@
        facts = manifest.read(path, kind="features", version=VERSION, made_by=made_by, verify=verify)
        return cls(path, facts)

    @property
    def layers(self) -> list[str]:
        """Return the names of the layers that are kept."""
        return list(self.facts["layers"])

    @property
    def source_classes(self) -> list[str] | None:
        """Return the class names behind the columns of `probabilities`, or None where there is no trained head."""
        classes: list[str] | None = self.facts["source_classes"]
        return classes

    @cached_property
    def index(self) -> pl.DataFrame:
        """Return id, split, class_index in row order."""
        return pl.read_parquet(self.path / "index.parquet")

    def layer(self, name: str) -> NDArray[Any]:
        """Return one layer as a read-only memory map [n, d] of all splits."""
        if name not in self.layers:
            raise InputProblem(f"keeps no layer {name!r}; {nearest(name, self.layers)}", where=str(self.path))
        mapped: NDArray[Any] = np.load(self.path / self.facts["layers"][name], mmap_mode="r", allow_pickle=False)
        return mapped

    @property
    def mapped_probabilities(self) -> NDArray[np.float16] | None:
        """Return source-class probabilities as a read-only memory map [n, n_source_classes], or None without a trained head."""
        if self.source_classes is None:
            return None
        mapped: NDArray[np.float16] = np.load(self.path / "probabilities.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    def probabilities(self, split: Split | None = None) -> NDArray[np.float32] | None:
        """Return source-class probabilities [n, n_source_classes] as float32 in memory, or None without a trained head."""
        mapped = self.mapped_probabilities
        return None if mapped is None else np.asarray(mapped if split is None else mapped[self.where(split)], dtype=np.float32)

    def where(self, split: Split) -> NDArray[np.int64]:
        """Return the row numbers of one split, ascending."""
        return np.flatnonzero((self.index["split"] == split).to_numpy()).astype(np.int64)

    def features(self, layer: str, split: Split) -> NDArray[np.float32]:
        """Return one layer's rows of one split as float32 [n, d], in memory."""
        return np.asarray(self.layer(layer)[self.where(split)], dtype=np.float32)

    def labels(self, split: Split | None = None) -> NDArray[np.int64]:
        """Return class indices [n]."""
        labels = self.index["class_index"].to_numpy().astype(np.int64)
        return labels if split is None else labels[self.where(split)]

    def batches(self, size: int, layer: str) -> Iterator[NDArray[Any]]:
        """Yield consecutive blocks [<= size, d] of one layer."""
        mapped = self.layer(layer)
        for start in range(0, len(mapped), size):
            yield np.asarray(mapped[start : start + size])
