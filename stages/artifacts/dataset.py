"""The Dataset on disk: a manifest of ids, splits and labels, shards of encoded images, a quarantine table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.artifacts import manifest
from stages.errors import InputProblem

DATASETS = Path("data/datasets")
VERSION = 1
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

MANIFEST_SCHEMA = {
    "id": pl.String,
    "split": pl.String,
    "label": pl.String,
    "class_index": pl.Int64,
    "sha256": pl.String,  # of the image; this and what follows is null where there is none
    "width": pl.Int64,
    "height": pl.Int64,
    "shard": pl.Int64,  # number of the images-*.parquet that holds the bytes
}
QUARANTINE_SCHEMA = {"id": pl.String, "reason": pl.String}


def dataset_path(name: str) -> Path:
    """Return where the dataset `name` lives."""
    return DATASETS / name


@dataclass(frozen=True)
class Dataset:
    """A finished dataset. Rows are sorted by (shard, id): the order of the shards, hence of every reader."""

    path: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, name: str, *, verify: bool = False) -> Self:
        """Open `data/datasets/<name>`; raises InputProblem where it is absent, unfinished or damaged."""
        path = dataset_path(name)
        return cls(path, manifest.read(path, kind="dataset", version=VERSION, made_by="sources", verify=verify))

    @property
    def name(self) -> str:
        """Return the name it has in params.yaml."""
        return self.path.name

    @property
    def classes(self) -> list[str]:
        """Return the class names; `class_index` points into this list."""
        return list(self.facts["classes"])

    @cached_property
    def identity(self) -> str:
        """Return the content key: the sha256 of the folder's manifest."""
        return manifest.identity(self.path)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Return the manifest: id, split, label, class_index, sha256, width, height, shard."""
        return pl.read_parquet(self.path / "manifest.parquet")

    @property
    def has_images(self) -> bool:
        """Say whether the rows are images; of a dataset of kind `table` only ids, labels and splits are known."""
        return not self.rows["shard"].null_count()

    def require_images(self) -> None:
        """Raise InputProblem where the rows are not images."""
        if not self.has_images:
            raise InputProblem(
                "holds ids and labels, no images",
                where=str(self.path),
                next_step="name features computed elsewhere under `features` in params.yaml, then `dvc repro`",
            )

    @property
    def quarantine(self) -> pl.DataFrame:
        """Return the images that could not be read: id, reason."""
        return pl.read_parquet(self.path / "quarantine.parquet")

    def only(self, rows: NDArray[np.int64]) -> Self:
        """Return a reader of some rows alone, by ascending number; its facts and identity stay those of the whole."""
        part = replace(self)
        part.__dict__["rows"] = self.rows[rows]
        return part

    def images(self, splits: Iterable[Split] = SPLITS) -> Iterator[tuple[str, bytes]]:
        """Yield (id, encoded bytes) of the chosen splits in row order, one shard in memory at a time."""
        yield from self._stream(self.rows.filter(pl.col("split").is_in(list(splits))))

    def images_between(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, encoded bytes) of the rows `start` to `stop` - 1 of each range; other shards are not read."""
        yield from self._stream(pl.concat([self.rows[:0], *(self.rows[start:stop] for start, stop in ranges)]))

    def _stream(self, chosen: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
        self.require_images()
        for shard in chosen["shard"].unique().sort():
            wanted = chosen.filter(pl.col("shard") == shard).select("id")
            path = self.path / f"images-{shard:05d}.parquet"
            try:
                content = pl.read_parquet(path)
            except (OSError, pl.exceptions.ComputeError) as error:  # it was there when the dataset was opened
                said = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read any more ({error})"
                raise InputProblem(said, where=str(path), next_step="`dvc checkout`, or ingest the dataset again") from None
            yield from wanted.join(content, on="id", how="left", maintain_order="left").iter_rows()

    def chosen(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the encoded bytes of single images by id, reading no shard that holds none of them."""
        self.require_images()
        wanted = self.rows.filter(pl.col("id").is_in(list(ids))).select("id", "shard").sort("shard", "id")
        found: dict[str, bytes] = {}
        for (shard,), rows in wanted.group_by(["shard"], maintain_order=True):
            stored = pl.scan_parquet(self.path / f"images-{shard:05d}.parquet").filter(pl.col("id").is_in(rows["id"].to_list()))
            found.update(stored.select("id", "bytes").collect().iter_rows())
        return found


def require_split(rows: pl.DataFrame, split: Split, name: str) -> pl.DataFrame:
    """Return the rows of one split; raises InputProblem where there are none."""
    chosen = rows.filter(pl.col("split") == split)
    if chosen.is_empty():
        raise InputProblem(f"has no {split} images", where=str(dataset_path(name)), next_step="add images, then `dvc repro`")
    return chosen
