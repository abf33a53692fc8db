"""Every model on every held-out unit, its constants and its intervals chosen without that unit.

Units lie in blocks. To calibrate what is said of block b, every other block c is predicted by a fit that saw neither b nor c;
one fit serves (b, c) and (c, b). So each unit costs one fit, and the calibration K (K - 1) / 2 in all, whatever the number of
units: nested cross-validation would take K fits for each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stages.languages import conformal
from stages.languages.design import Fit, Pairs
from stages.languages.protocols import Split

BLOCKS = 8
LEAST_UNITS = 2  # that must be left to fit on
CHOSEN = "chosen"  # of all candidates of all models the one with the least squared error in calibration
BY_REGRET = "chosen_by_regret"  # the one whose first source costs least there


@dataclass(frozen=True)
class Calibration:
    """What is known of one model before a unit is asked: errors on other units, from fits that saw none of this block.

    predicted, scores, sources, targets, groups [m] of the pairs predicted; candidate: index of the one taken.
    """

    predicted: NDArray[np.float64]
    scores: NDArray[np.float64]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    candidate: int

    def half_width(self, coverage: float) -> float | None:
        """Return the half-width of an interval around a prediction."""
        return conformal.half_width(np.abs(self.predicted - self.scores), self.groups, coverage)

    def allowance(self, coverage: float) -> float:
        """Return how far below the first prediction the best source of a target may be predicted."""
        return conformal.quantile(conformal.shortfalls(self.predicted, self.scores, self.targets), coverage)


@dataclass(frozen=True)
class HeldOut:
    """One model under one protocol: predictions [n], NaN where there is no answer, and each block's calibration.

    `ranks` says whether the protocol knows nothing of the target, so that its sources can be ranked.
    """

    predicted: NDArray[np.float64]
    block: NDArray[np.int64]  # [n], -1 where a pair is never asked
    calibrations: list[Calibration]
    ranks: bool


def in_blocks(split: Split, most: int = BLOCKS) -> list[NDArray[np.int64]]:
    """Return the units in at most `most` blocks of about as many pairs: the largest unit to the least filled block."""
    sizes = np.bincount(split.unit[split.unit >= 0], minlength=split.n_units)
    blocks: list[list[int]] = [[] for _ in range(min(most, split.n_units))]
    filled = [0] * len(blocks)
    for unit in np.argsort(-sizes, kind="stable").tolist():
        least = filled.index(min(filled))
        blocks[least].append(unit)
        filled[least] += int(sizes[unit])
    return [np.array(sorted(block), dtype=np.int64) for block in blocks]


class _Candidates:
    """The predictions of all candidates of all models, [candidates, n], NaN where none was made."""

    def __init__(self, fits: Mapping[str, Fit], pairs: Pairs, split: Split) -> None:
        self.fits, self.split, self.pairs = fits, split, pairs.knowing(split.means)

    def enough(self, seen: NDArray[np.bool_]) -> bool:
        units = self.split.unit[seen]
        return len(np.unique(units[units >= 0])) >= LEAST_UNITS

    def of(self, seen: NDArray[np.bool_], asked: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
        """Fit on the pairs that `seen` [n] marks and predict those that `asked` [n] marks: model -> [candidates, asked]."""
        fitted_on, wanted = self.pairs.where(seen), self.pairs.where(asked)
        return {
            name: np.clip(np.atleast_2d(fit(fitted_on)(wanted)), 0.0, 1.0) for name, fit in self.fits.items()
        }  # fmt: skip


def hold_out(pairs: Pairs, split: Split, fits: Mapping[str, Fit], *, blocks: int = BLOCKS) -> dict[str, HeldOut]:
    """Return each model's predictions of all pairs that the protocol asks, and those of the ones chosen.

    A unit is left without an answer where fewer than two others would be seen.
    """
    made = _Candidates(fits, pairs, split)
    grouped = in_blocks(split, blocks)
    empty = np.full(len(pairs), np.nan)
    outer: dict[str, NDArray[np.float64]] = {}
    inner: list[dict[str, NDArray[np.float64]]] = [{} for _ in grouped]

    def keep(into: dict[str, NDArray[np.float64]], rows: NDArray[np.int64], found: dict[str, NDArray[np.float64]]) -> None:
        for name, values in found.items():
            if name not in into:
                into[name] = np.tile(empty, (len(values), 1))
            into[name][:, rows] = values

    for unit in range(split.n_units):
        one = np.array([unit])
        seen, asked = split.seen_without(one), split.unit == unit
        if asked.any() and made.enough(seen):
            keep(outer, np.flatnonzero(asked), made.of(seen, asked))
    for first, second in combinations(range(len(grouped)), 2):
        dropped = np.concatenate([grouped[first], grouped[second]])
        seen = split.seen_without(dropped)
        asked = split.asked_in(dropped, dropped)
        if not (asked.any() and made.enough(seen)):
            continue
        found = made.of(seen, asked)
        units = split.unit[asked]
        for block, predicted in ((first, second), (second, first)):
            rows = np.isin(units, grouped[predicted])
            keep(inner[block], np.flatnonzero(asked)[rows], {name: values[:, rows] for name, values in found.items()})
    return _assemble(pairs, split, grouped, outer, inner)


def calibrate(
    pairs: Pairs, split: Split, fits: Mapping[str, Fit], *, blocks: int = BLOCKS
) -> tuple[Calibration, tuple[str, int]]:
    """Return what is known of the preferred candidate before a new unit is asked, and that candidate: model and index.

    Every block is predicted by a fit on all others.
    """
    made = _Candidates(fits, pairs, split)
    grouped = in_blocks(split, blocks)
    found: dict[str, NDArray[np.float64]] = {}
    for block in grouped:
        seen, asked = split.seen_without(block), split.asked_in(block, block)
        if asked.any() and made.enough(seen):
            for name, values in made.of(seen, asked).items():
                found.setdefault(name, np.full((len(values), len(pairs)), np.nan))[:, asked] = values
    nothing = np.empty((sum(len(values) for values in found.values()), 0))
    calibration = _calibrate(pairs, split, _blocks_of(split, grouped), found, list(found), nothing)
    left = calibration.candidate
    for name, values in found.items():
        if left < len(values):
            return calibration, (name, left)
        left -= len(values)
    return calibration, (next(iter(fits)), 0)


def _blocks_of(split: Split, grouped: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return each pair's block [n], -1 where it is never asked."""
    block_of_unit = np.empty(split.n_units + 1, dtype=np.int64)
    block_of_unit[-1] = -1
    for block, units in enumerate(grouped):
        block_of_unit[units] = block
    return block_of_unit[split.unit]


def _assemble(
    pairs: Pairs,
    split: Split,
    grouped: list[NDArray[np.int64]],
    outer: dict[str, NDArray[np.float64]],
    inner: list[dict[str, NDArray[np.float64]]],
) -> dict[str, HeldOut]:
    block_of = _blocks_of(split, grouped)
    names = list(outer)
    columns = {name: [name] for name in names}
    if names:
        columns[CHOSEN] = names
        if split.ranks:
            columns[BY_REGRET] = names
    result = {}
    for label, members in columns.items():
        of_outer = np.vstack([outer[name] for name in members])
        loss = regrets if label == BY_REGRET else squares
        predicted, calibrations = np.full(len(pairs), np.nan), []
        for block in range(len(grouped)):
            rows = block_of == block
            calibration = _calibrate(pairs, split, block_of, inner[block], members, of_outer[:, rows], loss)
            calibrations.append(calibration)
            predicted[rows] = of_outer[calibration.candidate, rows]
        result[label] = HeldOut(predicted, block_of, calibrations, split.ranks)
    return result


Loss = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def squares(values: NDArray[np.float64], scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the squared errors [c, n] of predictions [c, n]."""
    return np.asarray((values - scores) ** 2)


def regrets(values: NDArray[np.float64], scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what taking each target's first prediction costs [c, n], at the first pair of the target and 0 at its others.

    Sources predicted alike cost their mean, so that a model which cannot tell sources apart is not lucky.
    """
    found = np.zeros_like(values)
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        first = values[:, rows] >= values[:, rows].max(axis=1, keepdims=True) - 1e-12
        found[:, rows[0]] = scores[rows].max() - (first * scores[rows]).sum(axis=1) / np.maximum(first.sum(axis=1), 1)
    return found


def _calibrate(
    pairs: Pairs,
    split: Split,
    block_of: NDArray[np.int64],
    inner: dict[str, NDArray[np.float64]],
    members: list[str],
    outer: NDArray[np.float64],
    loss: Loss = squares,
) -> Calibration:
    """Choose a candidate by its loss on the other blocks, and judge each of these blocks by a choice made without it.

    A model that has no answer for some pair cannot be chosen for all, unless there is no other.
    """
    values = np.vstack([inner[name] for name in members]) if inner else np.full((1, len(pairs)), np.nan)
    rows = np.flatnonzero(np.isfinite(values).any(axis=0))
    values, blocks = values[:, rows], block_of[rows]
    silent = ~(np.isfinite(values).all(axis=1) & np.isfinite(outer).all(axis=1))
    of_block = np.zeros((len(values), int(block_of.max()) + 1))  # (candidates, blocks)
    np.add.at(of_block.T, blocks, np.nan_to_num(loss(values, pairs.scores[rows], pairs.target[rows])).T)
    total = of_block.sum(axis=1, keepdims=True)
    bar = np.where(silent & ~silent.all(), np.inf, 0.0)[:, None]
    picked = np.argmin(total - of_block + bar, axis=0)[blocks]
    predicted = values[picked, np.arange(len(rows))]
    answered = np.isfinite(predicted)
    rows, predicted = rows[answered], predicted[answered]
    columns = (pairs.scores[rows], pairs.source[rows], pairs.target[rows], split.group[rows])
    return Calibration(predicted, *columns, int(np.argmin(total + bar)))
