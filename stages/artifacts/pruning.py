"""The Pruning on disk: for one source, target and method the groups in order, and the images kept at each fraction.

`scores.parquet` holds every group of every draw, dropped ones too. `kept-0.2.parquet` (with reasons) and `kept-0.2.txt` (ids
alone, one a line) are what any trainer can read; a method that draws at random has more of them, `kept-0.2.draw-1.parquet` and
so on. A group is a class, a cluster or a single image, as `level` in the manifest says; `meaning` there says what a score is.
A combination of several targets has its own name where other prunings have the target's.
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
VERSION = 2
SCORES_SCHEMA = {
    "draw": pl.Int64,
    "group": pl.String,
    "score": pl.Float64,
    "soft_mass": pl.Float64,
    "rank": pl.Int64,  # 1 is kept longest
    "n_images": pl.Int64,  # training images of the group
    "reason": pl.String,  # null where the score and its meaning say it all
}
KEPT_SCHEMA = {
    "id": pl.String,
    "group": pl.String,
    "rank": pl.Int64,  # of the group, as are the score and the reason
    "score": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Draw:
    """One order of the groups, and what it keeps.

    Attributes:
        scores: the columns of SCORES_SCHEMA without draw; reason may be left out.
        kept: by fraction, id and group of the images kept.
    """

    scores: pl.DataFrame
    kept: Mapping[float, pl.DataFrame]


def pruning_path(source: str, target: str, method: str) -> Path:
    """Return where the pruning of one source for one target by one method lives."""
    return PRUNING / source / target / method


def _cast(schema: Mapping[str, Any]) -> list[pl.Expr]:
    return [pl.col(name).cast(kind) for name, kind in schema.items()]


def _kept_name(fraction: float, draw: int) -> str:
    return f"kept-{fraction!r}" + (f".draw-{draw}" if draw else "")


def write(folder: Path, draws: Sequence[Draw], *, inputs: Mapping[str, str], **facts: Any) -> None:
    """Write one pruning into `folder`, which is created and belongs to an unfinished output.

    Args:
        folder: where to write.
        draws: one for a deterministic method, one a repetition for a method that draws.
        inputs: content keys of what the scores were made from.
        facts: source, target, method, surrogate, layer; level and meaning of the scores; of a combination, its targets.
    """
    folder.mkdir(parents=True)
    orders = []
    for number, draw in enumerate(draws):
        given = draw.scores if "reason" in draw.scores.columns else draw.scores.with_columns(reason=None)
        order = given.with_columns(draw=number).select(_cast(SCORES_SCHEMA)).sort("rank")
        orders.append(order)
        # A group that is a single image bears its id, so this holds at every level.
        reasons = order.select("group", "rank", "score", "reason")
        for fraction, kept in draw.kept.items():
            rows = kept.select("id", "group").join(reasons, on="group").select(_cast(KEPT_SCHEMA)).sort("rank", "id")
            if len(rows) != len(kept):
                raise ValueError(f"{len(kept) - len(rows)} images are kept in groups without a score")
            name = _kept_name(fraction, number)
            rows.write_parquet(folder / f"{name}.parquet", compression="zstd")
            (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows["id"]), encoding="utf-8")
    pl.concat(orders).sort("draw", "rank").write_parquet(folder / "scores.parquet", compression="zstd")
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
        """Return draw, group, score, soft_mass, rank, n_images and reason, sorted by draw and rank."""
        return pl.read_parquet(self.path / "scores.parquet")

    def kept(self, fraction: float, repetition: int = 0) -> pl.DataFrame:
        """Return id, group, rank, score and reason of the images kept, best group first.

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
