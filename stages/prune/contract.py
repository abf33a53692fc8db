"""What a pruning method is given, what it answers, and which groups are kept for a fraction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputProblem

BLOCK = 8192  # rows held in memory at once: 16 MiB of float32 at 512 dimensions


class Rows:
    """Chosen rows of a matrix on disk, read as float32 when they are asked for.

    Slicing reads those rows alone, so that a source larger than memory is passed over block by block;
    `numpy.asarray` reads them all.
    """

    def __init__(self, matrix: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.matrix, self.rows = matrix, rows

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns)."""
        return len(self.rows), int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, block: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self.matrix[self.rows[block]], dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[slice(None)].astype(dtype or np.float32, copy=False)


Matrix = NDArray[Any] | Rows


def blocks(matrix: Matrix, size: int = BLOCK) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield (row slice, block [<= size, d]) over all rows in order."""
    for start in range(0, matrix.shape[0], size):
        chosen = slice(start, min(start + size, matrix.shape[0]))
        yield chosen, matrix[chosen]


@dataclass(frozen=True)
class PruneInputs:
    """All that a pruner may look at: training images only, and no label of the target.

    n is the number of training images of the source, t of the target; S classes in the source, d dimensions.
    """

    target_probabilities: NDArray[np.float32] | None  # [t, S]; None where the surrogate has no head
    target_features: NDArray[np.float32]  # [t, d]
    source_features: Matrix  # [n, d]
    source_groups: NDArray[np.int64]  # [n], positions in group_names
    group_names: Sequence[str]  # the source's classes
    source_ids: Sequence[str]  # [n]
    n_clusters: int  # for methods that make groups of their own
    generator: np.random.Generator


@dataclass(frozen=True)
class GroupScores:
    """One score for each of G groups of source images.

    Methods that make their own groups (clusters, single images) say so with `membership`, the group of each of
    the n source training images, and `names`; None stands for the source's classes.

    Attributes:
        scores: [G], higher is kept longer.
        soft_mass: [G], decides between equal scores, higher is kept longer.
        membership: [n] group of each source training image, or None.
        names: G names, or None.
        drawn: another state of the generator gives other scores, so every repetition of the proof needs its own.
    """

    scores: NDArray[np.float64]
    soft_mass: NDArray[np.float64]
    membership: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None
    drawn: bool = False

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not len(self.scores) or self.soft_mass.shape != self.scores.shape:
            raise ValueError(f"scores {self.scores.shape} and soft mass {self.soft_mass.shape} are not one number a group")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.soft_mass).all()):
            raise ValueError("scores and soft mass must be finite")
        if (self.membership is None) != (self.names is None):
            raise ValueError("groups of one's own need both membership and names")
        if self.names is not None and len(self.names) != len(self.scores):
            raise ValueError(f"{len(self.names)} names for {len(self.scores)} groups")
        if self.membership is not None and not np.isin(self.membership, np.arange(len(self.scores))).all():
            raise ValueError("membership names a group without a score")


Pruner = Callable[[PruneInputs], GroupScores]


def ranked(scores: GroupScores) -> NDArray[np.int64]:
    """Return all group ids [G], the one kept longest first: by score, then soft mass, then lower id."""
    ids = np.arange(len(scores.scores))
    return np.lexsort((ids, -scores.soft_mass, -scores.scores)).astype(np.int64)


def keep(scores: GroupScores, fraction: float) -> NDArray[np.int64]:
    """Return the ids of the groups to keep, the one kept longest first; at least one.

    What a smaller fraction keeps, a larger one keeps too. Halves round up: 0.5 of 5 groups are 3.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction to keep must be in (0, 1], not {fraction}")
    order = ranked(scores)
    return order[: max(1, math.floor(fraction * len(order) + 0.5))]


def require_finite(values: NDArray[Any], what: str) -> None:
    """Raise InputProblem where `values` holds NaN or infinity."""
    if not np.isfinite(values).all():
        raise InputProblem(
            f"{what} hold values that are not finite",
            next_step="look at the surrogate's training: a learning rate that is too high gives such weights",
        )
