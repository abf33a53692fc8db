"""Which rows the heads learn from: nested random draws in which every class is present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.seeds import generator

_TRIES = 10_000  # of the smallest draw, for each seed; 2k of k = 38 equal classes hold all classes once in about 100


@dataclass(frozen=True)
class Draws:
    """Nested draws: that of size m and seed s is the first m entries of `orders[s]`.

    Args:
        sizes: ascending sizes; the first holds every class for every seed.
        orders: [seeds][n] row numbers, none twice; n is at least the last size.
        left_out: what was asked for and cannot be drawn.
    """

    sizes: tuple[int, ...]
    orders: tuple[NDArray[np.int64], ...]
    left_out: tuple[int, ...] = ()


def nested_draws(labels: NDArray[Any], sizes: Sequence[int], seeds: int, *, run_seed: int, names: Sequence[str] = ()) -> Draws:
    """Draw rows without replacement, again and again until the smallest draw of every seed holds every class.

    So a draw of size m is uniform among the draws whose first `sizes[0]` rows hold all classes (arXiv 2302.02334).
    Sizes below the number of classes or above n cannot be drawn and are left out. So is, one after the other, a smallest
    size at which chance never shows all classes within the bounded number of tries.

    Args:
        labels: [n] class of every row.
        sizes: numbers of rows wanted, in any order.
        seeds: how many draws of every size; the stream of each is its own.
        run_seed: the run's seed.
        names: what else the streams depend on, for instance the target's name.

    Raises:
        InputProblem: no size lies between the number of classes and n.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    possible = sorted({size for size in sizes if len(classes) <= size <= len(labels)})
    for first in range(len(possible)):
        orders = []
        for seed in range(seeds):
            order = _order(codes, len(classes), possible[first], generator(run_seed, "probe", *names, seed))
            if order is None:
                break
            orders.append(order)
        else:
            return Draws(tuple(possible[first:]), tuple(orders), tuple(sorted(set(sizes) - set(possible[first:]))))
    raise InputProblem(
        f"no draw of {sorted(set(sizes))} rows out of {len(labels)} holds all {len(classes)} classes",
        where="probe.sizes",
        next_step="name larger sizes in params.yaml, or leave the key out",
    )


def _order(codes: NDArray[np.int64], n_classes: int, smallest: int, random: np.random.Generator) -> NDArray[np.int64] | None:
    """Return a permutation whose first `smallest` rows hold every class, or None where the tries run out."""
    for _ in range(_TRIES):
        prefix = random.choice(len(codes), smallest, replace=False)
        if np.bincount(codes[prefix], minlength=n_classes).all():
            rest = np.setdiff1d(np.arange(len(codes)), prefix, assume_unique=True)
            return np.concatenate([prefix, random.permutation(rest)])
    return None


def few_shot_draws(
    labels: NDArray[Any], per_class: Sequence[int], seeds: int, *, run_seed: int, names: Sequence[str] = ()
) -> Draws:
    """Draw k rows of every class without replacement, for growing k; a draw of size k times the classes holds k of each.

    A k that some class has not is left out.

    Args:
        labels: [n] class of every row.
        per_class: numbers of rows k of each class, in any order.
        seeds: how many draws of every size; the stream of each is its own.
        run_seed: the run's seed.
        names: what else the streams depend on, for instance the target's name.

    Raises:
        InputProblem: no k is left.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    fewest = int(np.bincount(codes).min())
    possible = sorted({k for k in per_class if 1 <= k <= fewest})
    if not possible:
        raise InputProblem(
            f"no draw of {sorted(set(per_class))} rows of each class: the rarest class has {fewest}",
            where="probe.per_class",
            next_step="name smaller numbers in params.yaml, or leave the key out",
        )
    orders = []
    for seed in range(seeds):
        random = generator(run_seed, "probe", "per_class", *names, seed)
        shuffled = random.permutation(len(codes))
        rows = [shuffled[codes[shuffled] == code][: possible[-1]] for code in range(len(classes))]
        orders.append(np.stack(rows, axis=1).ravel())  # one of each class, then the next of each
    left_out = tuple(sorted(set(per_class) - set(possible)))
    return Draws(tuple(k * len(classes) for k in possible), tuple(orders), left_out)
