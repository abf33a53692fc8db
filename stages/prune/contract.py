"""What a pruning method is given, what it answers, and which groups are kept for a fraction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.mapped import Release

BLOCK = 8192  # rows held in memory at once: 16 MiB of float32 at 512 dimensions
ALIKE = 0.8  # share of the votes for one group above which there is a warning


class Rows:
    """Chosen rows of a matrix on disk, read as float32 when they are asked for.

    Slicing reads those rows alone, so that a source larger than memory is passed over block by block;
    `numpy.asarray` reads them all.
    """

    def __init__(self, matrix: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.matrix, self.rows = matrix, rows
        self._release = Release(matrix)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns)."""
        return len(self.rows), int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, block: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        rows = self.rows[block]
        together = len(rows) > 1 and bool((np.diff(rows) == 1).all())  # one copy, not one a row
        read = np.array(self.matrix[rows[0] : rows[-1] + 1] if together else self.matrix[rows], dtype=np.float32)
        self._release.after(len(read))
        return read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[slice(None)].astype(dtype or np.float32, copy=False)


class UnitRows:
    """The rows of a matrix scaled to length one when they are asked for; a row of zeros stays one."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns)."""
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])

    def __getitem__(self, block: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.asarray(self.matrix[block], dtype=np.float64)
        require_finite(rows, "the source's features")
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)  # squares of large values would overflow
        rows = rows / np.where(largest > 0, largest, 1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths > 0, lengths, 1)


Matrix = NDArray[Any] | Rows | UnitRows


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

    target_probabilities: NDArray[np.float32] | None  # [t, S]; None where the surrogate's head knows no such classes
    target_features: NDArray[np.float32]  # [t, d]
    source_features: Matrix  # [n, d]
    source_groups: NDArray[np.int64] | None  # [n], positions in group_names; None where the source has no labels
    group_names: Sequence[str]  # the source's classes; none where it has no labels
    source_ids: Sequence[str]  # [n]
    n_clusters: int  # for methods that make groups of their own
    generator: np.random.Generator


Level = Literal["class", "cluster", "image"]


@dataclass(frozen=True)
class GroupScores:
    """One score for each of G groups of source images.

    Attributes:
        scores: [G], higher is kept longer.
        soft_mass: [G], decides between equal scores, higher is kept longer.
        level: what a group is: a class of the source; a cluster, which `membership` then defines; or a single one of
            its n training images, in the order of `PruneInputs.source_ids`.
        membership: [n] cluster of each source training image; None at the other levels.
        drawn: another state of the generator gives other scores, so every repetition of the proof needs its own.
        meaning: what a score is, in a few words.
        warning: a degenerate case that the reader should know of.
        reasons: [G] why each group stands where it does, where `meaning` and the score do not say it all.
    """

    scores: NDArray[np.float64]
    soft_mass: NDArray[np.float64]
    level: Level = "class"
    membership: NDArray[np.int64] | None = None
    drawn: bool = False
    meaning: str = "score"
    reasons: Sequence[str] | None = None
    warning: str | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not len(self.scores) or self.soft_mass.shape != self.scores.shape:
            raise ValueError(f"scores {self.scores.shape} and soft mass {self.soft_mass.shape} are not one number a group")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.soft_mass).all()):
            raise ValueError("scores and soft mass must be finite")
        if (self.level == "cluster") != (self.membership is not None):
            raise ValueError(f"clusters, and they alone, need a membership; these are scores of level {self.level!r}")
        if self.membership is not None and not np.isin(self.membership, np.arange(len(self.scores))).all():
            raise ValueError("membership names a group without a score")
        if self.reasons is not None and len(self.reasons) != len(self.scores):
            raise ValueError(f"{len(self.reasons)} reasons for {len(self.scores)} groups")


Pruner = Callable[[PruneInputs], GroupScores]


def ranked(scores: GroupScores) -> NDArray[np.int64]:
    """Return all group ids [G], the one kept longest first: by score, then soft mass, then lower id."""
    ids = np.arange(len(scores.scores))
    return np.lexsort((ids, -scores.soft_mass, -scores.scores)).astype(np.int64)


def kept_of(n_groups: int, fraction: float) -> int:
    """Return how many of n groups a fraction is; at least one, and halves round up: 0.5 of 5 groups are 3.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction to keep must be in (0, 1], not {fraction}")
    return max(1, math.floor(fraction * n_groups + 0.5))


def keep(scores: GroupScores, fraction: float) -> NDArray[np.int64]:
    """Return the ids of the groups to keep, the one kept longest first; at least one.

    What a smaller fraction keeps, a larger one keeps too.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    return ranked(scores)[: kept_of(len(scores.scores), fraction)]


def labels_of(inputs: PruneInputs) -> NDArray[np.int64]:
    """Return the class [n] of each source image; raises InputProblem where the source has no labels."""
    if inputs.source_groups is None:
        raise InputProblem(
            "this method needs the source's class labels, and the source has none, or a single class",
            next_step="in prune.methods, use feature_mapping_clusters, which groups images by k-means; "
            "near_duplicates_in_clusters and random_images need no labels either",
        )
    return inputs.source_groups


def images_by_class(labels: NDArray[np.int64], n_classes: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of each class's images, ascending, for classes 0 .. n_classes-1; empty where there are none."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    yield from np.split(order, np.cumsum(np.bincount(labels, minlength=n_classes))[:-1])


def one_sided(votes: NDArray[np.float64]) -> str | None:
    """Return a warning where nearly all votes are for one of several groups: target images look alike to the surrogate."""
    most = float(votes.max(initial=0) / (votes.sum() or 1))
    if len(votes) < 2 or most < ALIKE:
        return None
    return (
        f"{most:.0%} of the target's images vote for one group: to the surrogate they look alike, and the other groups' order "
        "rests on the soft mass; are both datasets framed, coloured and inverted alike?"
    )


def require_finite(values: NDArray[Any], what: str) -> None:
    """Raise InputProblem where `values` holds NaN or infinity."""
    if not np.isfinite(values).all():
        raise InputProblem(
            f"{what} hold values that are not finite",
            next_step="look at the surrogate's training: a learning rate that is too high gives such weights",
        )
