"""The Features on disk: one memory-mappable array a layer, source-class probabilities, and the rows' ids and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.artifacts import manifest
from stages.artifacts.dataset import Dataset, Split
from stages.errors import InputProblem, nearest

if TYPE_CHECKING:
    import faiss
    import torch

FEATURES = Path("data/features")
VERSION = 1
BLOCK = 8192  # rows copied at once
INDEX_SCHEMA = {"id": pl.String, "split": pl.String, "class_index": pl.Int64}


def features_path(encoder: str, dataset: str) -> Path:
    """Return where the features of one encoder on one dataset live."""
    return FEATURES / encoder / dataset


def finish(
    folder: Path, encoder: str, dataset: Dataset, *, layers: Iterable[str], grids: dict[str, str], dtype: str,
    inputs: dict[str, str], source_classes: list[str] | None,
) -> None:  # fmt: skip
    """Write the rows' index and the facts beside the arrays, `<layer>.npy` each, that a folder holds already."""
    dataset.rows.select(list(INDEX_SCHEMA)).write_parquet(folder / "index.parquet", compression="zstd")
    manifest.write(
        folder, kind="features", version=VERSION, inputs={"dataset": dataset.identity, **inputs}, encoder=encoder,
        dataset=dataset.name, layers={layer: f"{layer}.npy" for layer in layers}, grids=grids, dtype=dtype,
        source_classes=source_classes,
    )  # fmt: skip


@dataclass(frozen=True)
class FeatureSet:
    """Features of one encoder on one dataset, memory-mapped; row order is that of `index`.

    `features.json` (the folder's manifest facts) holds: encoder, dataset, layers and grids {name: file}, dtype, and
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
        mapped: NDArray[Any] = np.load(self._file(name), mmap_mode="r", allow_pickle=False)
        return mapped

    def grid(self, name: str) -> NDArray[Any]:
        """Return all positions of a layer as a read-only memory map [n, h, w, c], or [n, t, c] of tokens on no known grid."""
        kept: dict[str, str] = self.facts.get("grids", {})
        if name not in kept:
            raise InputProblem(f"keeps no grid of {name!r}; {nearest(name, kept)}", where=str(self.path))
        mapped: NDArray[Any] = np.load(self.path / kept[name], mmap_mode="r", allow_pickle=False)
        return mapped

    def _file(self, layer: str) -> Path:
        if layer not in self.layers:
            raise InputProblem(f"keeps no layer {layer!r}; {nearest(layer, self.layers)}", where=str(self.path))
        return self.path / str(self.facts["layers"][layer])

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

    def to_torch(self, layer: str) -> torch.Tensor:
        """Return one layer [n, d] as a tensor over the memory map: nothing is copied, and a write to it stays in memory."""
        import torch

        return torch.from_numpy(np.load(self._file(layer), mmap_mode="c", allow_pickle=False))

    def to_polars(self, *layers: str) -> pl.DataFrame:
        """Return id, split, class_index and one column of arrays a layer, all by default; the arrays are the memory maps."""
        import pyarrow as pa

        columns = []
        for name in layers or self.layers:
            mapped = self.layer(name)
            flat = pa.Array.from_buffers(pa.from_numpy_dtype(mapped.dtype), mapped.size, [None, pa.py_buffer(mapped)])
            arrays = pl.from_arrow(pa.FixedSizeListArray.from_arrays(flat, mapped.shape[1]))
            assert isinstance(arrays, pl.Series)
            columns.append(arrays.alias(name))
        return self.index.with_columns(columns)

    def to_faiss(self, layer: str, split: Split | None = None, *, cosine: bool = True) -> faiss.IndexFlat:
        """Return an exact index of one layer's rows, all or of one split, numbered in their order.

        faiss keeps its own copy, 4 n d bytes, made block by block. By cosine it searches inner products of rows scaled to
        length one, and queries are to be scaled too (`faiss.normalize_L2`); else squared Euclidean distances.
        """
        import faiss

        mapped = self.layer(layer)
        rows = np.arange(len(mapped)) if split is None else self.where(split)
        index = (faiss.IndexFlatIP if cosine else faiss.IndexFlatL2)(mapped.shape[1])
        for start in range(0, len(rows), BLOCK):
            block = np.array(mapped[rows[start : start + BLOCK]], dtype=np.float32, order="C")
            if cosine:
                faiss.normalize_L2(block)
            index.add(block)
        return index
