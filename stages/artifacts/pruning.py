"""The Pruning on disk: for one source, target and method the groups in order, and the images kept at each fraction.

`scores.parquet` holds every group of every draw. `kept-0.2.parquet` and `kept-0.2.txt` (ids alone, one a line) are
what any trainer can read; a method that draws at random has more of them, `kept-0.2.draw-1.parquet` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from stages.artifacts import manifest
from stages.errors import InputProblem

PRUNING = Path("data/pruning")
VERSION = 1
SCORES_SCHEMA = {
    "draw": pl.Int64,
    "group": pl.String,
    "score": pl.Float64,
    "soft_mass": pl.Float64,
    "rank": pl.Int64,  # 1 is kept longest
    "n_images": pl.Int64,  # training images of the group
}
KEPT_SCHEMA = {
    "id": pl.String,
    "group": pl.String,
    "rank": pl.Int64,  # of the group: the reason why the image is kept
}


@dataclass(frozen=True)
class Draw:
    """One order of the groups, and what it keeps: `scores` without the column draw, `kept` by fraction."""

    scores: pl.DataFrame
    kept: Mapping[float, pl.DataFrame]


def pruning_path(source: str, target: str, method: str) -> Path:
    """Return where the pruning of one source for one target by one method lives."""
    return PRUNING / source / target / method


def _kept_name(fraction: float, draw: int) -> str:
    return f"kept-{fraction!r}" + (f".draw-{draw}" if draw else "")


def write(folder: Path, draws: Sequence[Draw], *, inputs: Mapping[str, str], **facts: Any) -> None:
    """Write one pruning into `folder`, which is created and belongs to an unfinished output.

    Args:
        folder: where to write.
        draws: one for a deterministic method, one a repetition for a method that draws.
        inputs: content keys of what the scores were made from.
        facts: source, target, method, surrogate, layer.
    """
    folder.mkdir(parents=True)
    scores = [draw.scores.with_columns(draw=pl.lit(number)) for number, draw in enumerate(draws)]
    pl.concat(scores).select(pl.col(name).cast(kind) for name, kind in SCORES_SCHEMA.items()).sort(
        "draw", "rank"
    ).write_parquet(folder / "scores.parquet", compression="zstd")
    for number, draw in enumerate(draws):
        for fraction, kept in draw.kept.items():
            rows = kept.select(pl.col(name).cast(kind) for name, kind in KEPT_SCHEMA.items()).sort("rank", "id")
            name = _kept_name(fraction, number)
            rows.write_parquet(folder / f"{name}.parquet", compression="zstd")
            (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows["id"]), encoding="utf-8")
    manifest.write(
        folder,
        kind="pruning",
        version=VERSION,
        inputs=inputs,
        draws=len(draws),
        fractions=sorted(draws[0].kept),
        **facts,
    )


@dataclass(frozen=True)
class Pruning:
    """A finished pruning of one source for one target by one method."""

    path: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, source: str, target: str, method: str, *, verify: bool = False) -> Self:
        """Open `data/pruning/<source>/<target>/<method>`; raises InputProblem where it is absent or damaged."""
        path = pruning_path(source, target, method)
        return cls(path, manifest.read(path, kind="pruning", version=VERSION, made_by="prune", verify=verify))

    @property
    def fractions(self) -> list[float]:
        """Return the fractions of the groups that were kept, ascending."""
        return list(self.facts["fractions"])

    @property
    def scores(self) -> pl.DataFrame:
        """Return draw, group, score, soft_mass, rank, n_images, sorted by draw and rank."""
        return pl.read_parquet(self.path / "scores.parquet")

    def kept(self, fraction: float, repetition: int = 0) -> pl.DataFrame:
        """Return id, group and rank of the images kept, best group first.

        A deterministic method keeps the same for every repetition.

        Raises:
            InputProblem: the fraction was not asked for when the pruning was made.
        """
        draw = repetition if self.facts["draws"] > 1 else 0
        path = self.path / f"{_kept_name(fraction, draw)}.parquet"
        if not path.is_file():
            raise InputProblem(
                f"keeps {self.fractions} in {self.facts['draws']} draws, not {fraction} in repetition {repetition}",
                where=str(self.path),
                next_step="dvc repro prune",
            )
        return pl.read_parquet(path)
